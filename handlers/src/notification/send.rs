//! One notification to one channel: what is called, and how what is secret about it stays hidden.

use std::collections::BTreeMap;

use runner_core::clock::{Clock as _, SystemClock};
use runner_core::function::{HttpBody, HttpResult, HttpSpec};
use runner_core::notification::{Notification, NotifyOn};
use runner_core::template::NoValue;
use runner_sdk::{Ctx, Outcome, TaskError};
use serde_json::Value;

use super::hide::hide_parts;
use super::template::{RESOLVE, TemplateValues, action};
use super::{Channel, ChannelSender, ChannelTemplate, ChannelText};
use crate::http::{self, Caller};
use crate::mail;
use crate::misconfigured::misconfigured;
use crate::secret::Secrets;

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
            let call = ServiceCall {
                template,
                notification,
                own: &own,
                caller: &parts.caller,
                cx,
            };
            let sent = call.send(action(notification.event), secrets.clone()).await?;
            if notification.event == NotifyOn::Test && template.has_incidents() {
                // A test must leave no incident open.
                return call.send(RESOLVE, secrets).await;
            }
            Ok(sent)
        }
    }
}

/// A call to a service.
struct ServiceCall<'a> {
    template: &'a ChannelTemplate,
    notification: &'a Notification,
    own: &'a BTreeMap<String, String>,
    caller: &'a Caller,
    cx: &'a Ctx,
}

impl ServiceCall<'_> {
    async fn send(&self, action: &'static str, mut secrets: Secrets) -> Result<Outcome, TaskError> {
        let template = self.template;
        let values = TemplateValues {
            notification: self.notification,
            action,
            escape: &template.escape,
            own: self.own,
        };
        // Its names were checked when the settings were read.
        let wrong = |why: NoValue| TaskError::skip(format!("misconfigured: the template: {why}"));
        let mut url = template.url.text(&values).map_err(wrong)?;
        let mut body = template.body.value(&values).map_err(wrong)?;
        if let (Some(signature), Some(secret)) = (template.sign, self.own.get("secret")) {
            signature.sign(secret, SystemClock.now(), &mut url, &mut body);
        }
        hide_parts(&url, &mut secrets);
        let mut spec = HttpSpec::new(url);
        spec.body = HttpBody::Text(body.to_string());
        spec.result = HttpResult::Response;
        let function = self.notification.function.as_deref().unwrap_or_default();
        let sent = http::call(&spec, function, self.caller, secrets, self.cx).await?;
        accepted(template, sent)
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
