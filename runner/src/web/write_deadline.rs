//! A socket with a deadline for writes: the client must read its answers at a minimum rate, or the connection ends.
//!
//! Not here: limits for reading heads (`serve`) and bodies (`concurrency`).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::connections::ConnectionState;

/// How long a client may leave an answer unread. Longer than any pause of a live network; short enough that people notice
/// the restart of the client rather than this limit.
pub const WRITE_TIME: Duration = Duration::from_secs(20);
/// Bytes that a client must read in that time, unless less is left: 800 bytes a second is slower than a modem.
const STEP: usize = 16 * 1024;

/// A socket whose writes have a deadline.
pub struct WriteDeadline {
    socket: TcpStream,
    state: Arc<ConnectionState>,
    /// Bytes accepted by the system since the last progress.
    taken: usize,
    /// Runs while the client does not read.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl WriteDeadline {
    /// Watches writes to `socket`.
    pub fn new(socket: TcpStream, state: Arc<ConnectionState>) -> Self {
        Self {
            socket,
            state,
            taken: 0,
            deadline: None,
        }
    }

    fn wrote(&mut self, bytes: usize) {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken >= STEP {
            self.moved_on();
        }
    }

    fn moved_on(&mut self) {
        self.taken = 0;
        self.deadline = None;
        self.state.progressed();
        self.state.owes(false);
    }

    /// The system accepts no more for now.
    fn stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.state.owes(true);
        let deadline = self.deadline.get_or_insert_with(|| {
            // Wakes the task at the deadline; progress of the client cancels it.
            Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_TIME))
        });
        ready!(deadline.as_mut().poll(cx));
        let slow = "the client did not take its answer in time";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, slow)))
    }
}

impl AsyncWrite for WriteDeadline {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.socket).poll_write(cx, data) {
            Poll::Pending => self.stalled(cx),
            Poll::Ready(Ok(bytes)) => {
                self.wrote(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.socket).poll_write_vectored(cx, data) {
            Poll::Pending => self.stalled(cx),
            Poll::Ready(Ok(bytes)) => {
                self.wrote(bytes);
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// Called when everything was written: the answer is with the system.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.taken > 0 || self.deadline.is_some() {
            self.moved_on();
        }
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl AsyncRead for WriteDeadline {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, into)
    }
}

impl Drop for WriteDeadline {
    // Data that the client does not fetch would otherwise stay in the kernel for minutes after an orderly close.
    fn drop(&mut self) {
        if self.state.leaves_data() {
            // Fails for sockets that are already closed.
            let _gone = self.socket.set_zero_linger();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::connections::{Connections, OpenConnection};
    use super::*;

    /// A connection with its other end. Time stands still, so deadlines pass only when nothing else can happen.
    async fn pair() -> (WriteDeadline, TcpStream, OpenConnection) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, from) = listener.accept().await.unwrap();
        let taken = Connections::new().take(from.ip()).unwrap();
        (WriteDeadline::new(socket, Arc::clone(taken.state())), client, taken)
    }

    #[tokio::test(start_paused = true)]
    async fn an_unread_answer_ends_the_connection() {
        let (mut paced, client, taken) = pair().await;
        let began = Instant::now();
        let written = paced.write_all(&vec![0; 64 << 20]).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!((WRITE_TIME..WRITE_TIME * 2).contains(&began.elapsed()));
        assert!(taken.state().leaves_data());
        drop(client);
    }

    #[tokio::test]
    async fn a_client_that_reads_gets_everything() {
        let (mut paced, mut client, taken) = pair().await;
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.unwrap();
            read.len()
        });
        paced.write_all(&vec![0; 8 << 20]).await.unwrap();
        paced.flush().await.unwrap();
        assert!(!taken.state().leaves_data());
        drop(paced);
        assert_eq!(reader.await.unwrap(), 8 << 20);
    }
}
