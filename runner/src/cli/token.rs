//! `runner token`: makes a token for programs that call the API. Keeps nothing: the settings get its digest, the program the token.

use std::time::Duration;

use anyhow::anyhow;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;

use super::{CommandContext, print, values};
use crate::access::{DIGEST_PREFIX, TokenScope, digest_of};
use crate::text::hex;

/// How tokens of this command begin, so that a search for lost secrets knows one.
const PREFIX: &str = "runner_";

/// Make a token for programs that call the API
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner token new ci\n  \
    runner token new shop --scope act:tasks --expires 365d\n  \
    runner token new ci --json | jq -r .token\n\n\
    The token is shown once. Add the printed lines to the settings; a running instance reads them within seconds.")]
pub struct TokenCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    New(New),
}

/// Print a new token, and the lines for the settings
#[derive(Debug, Args)]
struct New {
    /// Name in settings and audit lines: letters, digits, dots, - and _
    #[arg(value_parser = name)]
    name: String,
    /// What it allows: read, act or delete, or one of them for a resource, such as act:tasks; may be repeated [default: read]
    #[arg(long = "scope", value_name = "SCOPE", value_parser = scope)]
    scopes: Vec<String>,
    /// Refuse it after this time: 90d
    #[arg(long, value_name = "DURATION", value_parser = values::seconds)]
    expires: Option<Duration>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

fn name(text: &str) -> Result<String, String> {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    match plain && (1..=64).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err("it must be 1 to 64 letters, digits, dots, - and _".to_owned()),
    }
}

fn scope(text: &str) -> Result<String, String> {
    let known = TokenScope::parse(text).is_some_and(|scope| scope.resource.as_deref() != Some(""));
    let plain = text.chars().all(|c| c.is_ascii_lowercase() || c == ':' || c == '-');
    match known && plain {
        true => Ok(text.to_owned()),
        false => Err("it must be read, act or delete, or one of them for a resource, such as act:tasks".to_owned()),
    }
}

impl TokenCommand {
    pub fn run(self, context: &CommandContext) -> anyhow::Result<()> {
        let Verb::New(new) = self.verb;
        new.run(context.clock.now())
    }
}

impl New {
    fn run(self, now: Timestamp) -> anyhow::Result<()> {
        let mut bytes = [0; 32];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| anyhow!("the system gives no random bytes"))?;
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        let hash = format!("{DIGEST_PREFIX}{}", hex(&digest_of(&token)));
        let expires = self.expires.and_then(|after| now.checked_add(after).ok());
        let expires = expires.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let scopes = match self.scopes.is_empty() {
            true => vec!["read".to_owned()],
            false => self.scopes,
        };
        if self.json {
            let object = json!({
                "name": self.name, "token": token, "token_hash": hash, "scopes": scopes, "expires": expires,
            });
            return Ok(print::done_as_json(&object)?);
        }
        let expires = expires.map_or_else(String::new, |at| format!("      expires: {at}\n"));
        Ok(print::text(&format!(
            "{token}\n\nauth:\n  tokens:\n    - name: {}\n      token_hash: {hash}\n      scopes: [{}]\n{expires}",
            self.name,
            scopes.join(", ")
        ))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_scopes_need_no_quotes_in_the_settings() {
        assert!(name("ci-1.shop_a").is_ok());
        for odd in ["", "a b", "a:b", "空", &"x".repeat(65)] {
            assert!(name(odd).is_err(), "{odd}");
        }
        assert!(scope("read").is_ok() && scope("act:bad-messages").is_ok());
        for odd in ["", "write", "act:", "act: x", "act:[x"] {
            assert!(scope(odd).is_err(), "{odd}");
        }
    }
}
