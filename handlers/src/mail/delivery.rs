//! Gives a message to the server, recipient by recipient, and reports who was refused.

use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{Extension, MailParameter};
use runner_sdk::{Ctx, Outcome, TaskError};

use super::MailSettings;
use super::connection::{QUIT_TIMEOUT, SmtpFailure, in_time, open};
use super::letter::Letter;

/// How long the server may take to accept a whole message: giving up earlier would send it twice (RFC 5321, 4.5.3.2.6).
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(600);

/// A recipient that the server refused.
struct RefusedRecipient {
    address: Address,
    answer: SmtpFailure,
}

/// Sends the message.
pub(super) async fn send(letter: &Letter, settings: &MailSettings, cx: &Ctx) -> Result<Outcome, TaskError> {
    let mut connection = open(settings, cx).await?;
    let (answer, refused) = transmit(&mut connection, letter, settings).await?;
    // The server has the message: a stop or the time limit of the attempt must not make it look unsent, so it is not awaited.
    tokio::spawn(async move { tokio::time::timeout(QUIT_TIMEOUT, connection.quit()).await.ok() });
    let host = &settings.host;
    cx.log()
        .push("log", &format!("{host} accepted {} ({answer})", letter.id));
    for RefusedRecipient { address, answer } in &refused {
        let answer = answer.text();
        cx.log().push(
            "log",
            &format!("warning: {host} refused the recipient {address}: {answer}"),
        );
        tracing::warn!(code = "mail_recipient_refused", task_id = %cx.id(), task_type = cx.kind(), recipient = %address, answer, "a recipient of a message is refused");
    }
    let refused: Vec<serde_json::Value> = refused
        .iter()
        .map(|r| serde_json::json!({"to": r.address.to_string(), "answer": r.answer.text()}))
        .collect();
    let result = serde_json::json!({
        "message_id": letter.id,
        "answer": answer,
        "accepted": letter.recipients.len() - refused.len(),
        "refused": refused,
    });
    Ok(Outcome::success(result.to_string()))
}

/// The last answer of the server, and whom it refused.
async fn transmit(
    connection: &mut AsyncSmtpConnection,
    letter: &Letter,
    settings: &MailSettings,
) -> Result<(String, Vec<RefusedRecipient>), TaskError> {
    let wrong = |what: &str, answer: &SmtpFailure| {
        let text = format!("{} {what}: {}", settings.host, answer.text());
        match answer.is_final() {
            true => TaskError::skip(text),
            false => TaskError::retry(text),
        }
    };
    let options = internationalized(connection, letter)?;
    let opened = in_time(connection.command(Mail::new(Some(letter.from.clone()), options))).await;
    opened.map_err(|e| wrong("refused the sender", &e))?;
    let mut refused: Vec<RefusedRecipient> = Vec::new();
    for address in &letter.recipients {
        let answer = in_time(connection.command(Rcpt::new(address.clone(), Vec::new()))).await;
        match answer {
            Ok(_) => (),
            Err(answer) if answer.is_answer() => refused.push(RefusedRecipient {
                address: address.clone(),
                answer,
            }),
            Err(answer) => return Err(wrong("did not answer about a recipient", &answer)),
        }
    }
    if refused.len() == letter.recipients.len() {
        // If only one of them may be accepted later, it is worth trying again.
        let first = refused.iter().find(|r| !r.answer.is_final()).or(refused.first());
        if let Some(RefusedRecipient { address, answer }) = first {
            let error = wrong(&format!("refused every recipient, such as {address}"), answer);
            tokio::time::timeout(QUIT_TIMEOUT, connection.abort()).await.ok();
            return Err(error);
        }
    }
    in_time(connection.command(Data))
        .await
        .map_err(|e| wrong("refused the message", &e))?;
    let accepted = tokio::time::timeout(ACCEPT_TIMEOUT, connection.message(&letter.bytes)).await;
    let accepted = accepted
        .map_err(|_| SmtpFailure::Late)
        .and_then(|answer| answer.map_err(SmtpFailure::Refused));
    let answer = accepted.map_err(|e| wrong("did not accept the message", &e))?;
    Ok((answer.first_line().unwrap_or_default().to_owned(), refused))
}

/// What the server must understand for addresses beyond ASCII.
fn internationalized(connection: &AsyncSmtpConnection, letter: &Letter) -> Result<Vec<MailParameter>, TaskError> {
    let mut addresses = letter.recipients.iter().chain([&letter.from]);
    let Some(address) = addresses.find(|a| !AsRef::<str>::as_ref(a).is_ascii()) else {
        return Ok(Vec::new());
    };
    if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
        return Err(TaskError::skip(format!(
            "the mail server takes no address with characters beyond ASCII, such as {address}"
        )));
    }
    Ok(vec![MailParameter::SmtpUtfEight])
}
