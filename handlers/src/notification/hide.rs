//! Which parts of the address of a channel may be secrets.

use crate::secret::Secrets;

/// Parts of an address that are at least this long may be tokens.
const TOKEN_BYTES: usize = 8;

/// Hides user, password and all parts behind the host that may be tokens, as they are written and decoded: a receiver may repeat
/// either.
pub(super) fn hide_parts(url: &str, secrets: &mut Secrets) {
    let Some((_, rest)) = url.split_once("://") else { return };
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if let Some((login, _)) = authority.rsplit_once('@') {
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        // Of a password any length counts; of a name it would hide words of the text.
        for part in [login, password] {
            hide(part, secrets);
        }
        hide_long(user, secrets);
    }
    hide_long(tail, secrets);
    for part in tail.split(['/', '?', '&', '=', '#', ':', ';', ',']) {
        hide_long(part, secrets);
    }
}

fn hide_long(part: &str, secrets: &mut Secrets) {
    if part.len() >= TOKEN_BYTES {
        hide(part, secrets);
    }
}

fn hide(part: &str, secrets: &mut Secrets) {
    secrets.hide(part);
    let decoded = decoded(part);
    if decoded != part {
        secrets.hide(&decoded);
    }
}

/// `%41` as `A`; what is no such number stays as it is.
fn decoded(part: &str) -> String {
    let bytes = part.as_bytes();
    let (mut made, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let digits = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match (bytes[at], byte) {
            (b'%', Some(byte)) => {
                made.push(byte);
                at += 3;
            }
            (plain, _) => {
                made.push(plain);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&made).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str, text: &str) -> String {
        let mut secrets = Secrets::default();
        hide_parts(url, &mut secrets);
        String::from_utf8_lossy(&secrets.redact(text.as_bytes())).into_owned()
    }

    #[test]
    fn no_part_of_an_address_that_may_be_a_token_is_shown() {
        let url = "https://hooks.example.com/services/T000B000/x9y8z7w6v5?key=s3cr3tkey#fr4gment5";
        let text = "no_service x9y8z7w6v5 for s3cr3tkey, fr4gment5 at hooks.example.com";
        assert_eq!(shown(url, text), "no_service *** for ***, *** at hooks.example.com");
        assert_eq!(shown("not a url", "not a url"), "not a url");
    }

    #[test]
    fn a_login_and_what_is_encoded_are_hidden_as_well() {
        let url = "https://ann:p%40ss@hooks.example.com/a%2Fb%20token/x?k=%7Es3cr3tkey";
        let text = "p%40ss p@ss ann a/b token ~s3cr3tkey hooks.example.com";
        assert_eq!(shown(url, text), "*** *** ann *** *** hooks.example.com");
        assert_eq!(shown("https://t0ken-0f-ops@h/", "t0ken-0f-ops 7%"), "*** 7%");
        assert_eq!(shown("https://h?k=s3cr3tkey%", "s3cr3tkey%zz"), "***zz");
    }
}
