//! One notification to one channel: what is called, and how what is secret about it stays hidden.

use std::collections::BTreeMap;

use runner_core::function::{HttpBody, HttpResult, HttpSpec};
use runner_core::notification::Notification;
use runner_core::template::NoValue;
use runner_sdk::{Ctx, Outcome, TaskError};
use serde_json::Value;

use super::template::TemplateValues;
use super::{Channel, ChannelSender, ChannelTemplate, ChannelText};
use crate::http;
use crate::mail;
use crate::misconfigured::misconfigured;
use crate::secret::Secrets;

/// Parts of an address that are at least this long may be tokens.
const TOKEN_BYTES: usize = 8;

pub(super) async fn send(
    channel: &Channel,
    notification: &Notification,
    parts: &ChannelSender,
    cx: &Ctx,
) -> Result<Outcome, TaskError> {
    let mut secrets = Secrets::default();
    let function = notification.function.as_deref().unwrap_or_default();
    match channel {
        Channel::Webhook { url, secret } => {
            let mut spec = HttpSpec::new(address(url, &mut secrets, cx).await?);
            if let Some(secret) = secret {
                spec.sign_secret = Some(read(secret, &mut secrets, cx).await?);
            }
            spec.result = HttpResult::Response;
            http::call(&spec, function, &parts.caller, secrets, cx).await
        }
        Channel::Mail(spec) => mail::run(spec, function, parts.mail.as_ref(), cx).await,
        Channel::Service { template, values } => {
            let own = own_values(template, values, &mut secrets, cx).await?;
            let values = TemplateValues {
                notification,
                own: &own,
            };
            // Its names were checked when the settings were read.
            let wrong = |why: NoValue| TaskError::skip(format!("misconfigured: the template: {why}"));
            let url = template.url.text(&values).map_err(wrong)?;
            hide_parts(&url, &mut secrets);
            let mut spec = HttpSpec::new(url);
            spec.body = HttpBody::Text(template.body.value(&values).map_err(wrong)?.to_string());
            spec.result = HttpResult::Response;
            let sent = http::call(&spec, function, &parts.caller, secrets, cx).await?;
            accepted(template, sent)
        }
    }
}

/// The values of the channel, and of its keys that are not stated.
async fn own_values(
    template: &ChannelTemplate,
    stated: &BTreeMap<String, ChannelText>,
    secrets: &mut Secrets,
    cx: &Ctx,
) -> Result<BTreeMap<String, String>, TaskError> {
    let mut own = template.defaults.clone();
    for (key, text) in stated {
        let value = match key.as_str() {
            // An id of a chat is no secret.
            "to" => text.read().await.map_err(|why| misconfigured(why, cx))?,
            "url" => address(text, secrets, cx).await?,
            _ => read(text, secrets, cx).await?,
        };
        own.insert(key.clone(), value);
    }
    Ok(own)
}

/// Services that answer 200 to everything say in the body whether they took the message.
fn accepted(template: &ChannelTemplate, sent: Outcome) -> Result<Outcome, TaskError> {
    let (Some((member, wanted)), Outcome::Success(Some(answer))) = (&template.accept, &sent) else {
        return Ok(sent);
    };
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let body = &answer["body"];
    if body.get(member) == Some(wanted) {
        return Ok(sent);
    }
    Err(TaskError::retry(format!("the service did not take it: {body}")))
}

/// A text of the channel; hidden from now on.
async fn read(text: &ChannelText, secrets: &mut Secrets, cx: &Ctx) -> Result<String, TaskError> {
    let value = text.read().await.map_err(|why| misconfigured(why, cx))?;
    secrets.hide(&value);
    Ok(value)
}

/// An address, of which the path and its parts are hidden too: there the token of a webhook is.
async fn address(text: &ChannelText, secrets: &mut Secrets, cx: &Ctx) -> Result<String, TaskError> {
    let url = read(text, secrets, cx).await?;
    hide_parts(&url, secrets);
    Ok(url)
}

fn hide_parts(url: &str, secrets: &mut Secrets) {
    let Some((_, rest)) = url.split_once("://") else { return };
    let Some(at) = rest.find(['/', '?']) else { return };
    let tail = &rest[at..];
    for part in std::iter::once(tail).chain(tail.split(['/', '?', '&', '='])) {
        if part.len() >= TOKEN_BYTES {
            secrets.hide(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_an_address_that_may_be_a_token_is_shown() {
        let mut secrets = Secrets::default();
        hide_parts(
            "https://hooks.example.com/services/T000B000/x9y8z7w6v5?key=s3cr3tkey",
            &mut secrets,
        );
        let text = b"no_service x9y8z7w6v5 for s3cr3tkey at hooks.example.com";
        let shown = String::from_utf8_lossy(&secrets.redact(text)).into_owned();
        assert_eq!(shown, "no_service *** for *** at hooks.example.com");
        hide_parts("not a url", &mut secrets);
    }
}
