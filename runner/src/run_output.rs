//! The whole output of a run, packed: what the broker keeps beside a record that has a part only.
//!
//! Written by workers before the claim ends, read by pages and commands. Where it is stored, and when it goes, is the
//! brokers' matter.

use std::io::{self, Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use runner_queue::{Broker, BrokerResult, RunRecord};

/// Bytes of an output: as many as the log of a run holds.
const MAX_BYTES: usize = 1024 * 1024;

/// Four bytes of the attempt, least significant first, and the text as a DEFLATE stream (RFC 1951). The attempt is there
/// because a worker that lost its lease may write over the output of the attempt that counts.
///
/// # Errors
///
/// None in practice: it writes to memory.
pub fn pack(attempt: u32, output: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = DeflateEncoder::new(attempt.to_le_bytes().to_vec(), Compression::fast());
    encoder.write_all(&output[..output.len().min(MAX_BYTES)])?;
    encoder.finish()
}

/// The output of this attempt; `None` if it is that of another one, or of another form. Reads no more than an output may
/// have, whatever the bytes claim.
fn unpack(attempt: u32, packed: &[u8]) -> Option<String> {
    let (of, stream) = packed.split_first_chunk()?;
    if u32::from_le_bytes(*of) != attempt {
        return None;
    }
    let mut text = Vec::new();
    DeflateDecoder::new(stream)
        .take(MAX_BYTES as u64)
        .read_to_end(&mut text)
        .ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// All that a run printed, as far as it is kept: the whole, or else what its record has of it.
///
/// # Errors
///
/// Those of the broker.
pub async fn of(broker: &dyn Broker, record: &RunRecord) -> BrokerResult<Option<String>> {
    if record.output_cut {
        let packed = broker.output(&record.queue, &record.task).await?;
        if let Some(whole) = packed.and_then(|packed| unpack(record.attempt, &packed)) {
            return Ok(Some(whole));
        }
    }
    Ok(record.output.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_output_is_unpacked_as_it_was_packed() {
        for text in [String::new(), "line é\n".repeat(100_000)] {
            let packed = pack(3, text.as_bytes()).unwrap();
            assert_eq!(unpack(3, &packed), Some(text));
            assert_eq!(unpack(2, &packed), None);
        }
        assert!(pack(1, "line\n".repeat(100_000).as_bytes()).unwrap().len() < 10_000);
    }

    #[test]
    fn other_bytes_are_not_an_output_and_a_bomb_stays_small() {
        assert_eq!(unpack(1, b""), None);
        assert_eq!(unpack(1, b"\x01\0\0\0 not deflate"), None);
        let mut encoder = DeflateEncoder::new(1_u32.to_le_bytes().to_vec(), Compression::best());
        for _ in 0..64 {
            encoder.write_all(&[b'a'; 1024 * 1024]).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert_eq!(unpack(1, &bomb).unwrap().len(), MAX_BYTES);
    }
}
