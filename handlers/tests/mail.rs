//! Functions that send mail, against a server of our own that also misbehaves.
#![cfg(feature = "mail")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../tests/kit/smtp.rs"]
mod smtp;

use std::time::Duration;

use runner_core::function::{Function, FunctionKind, FunctionTemplate, Functions, MailAttachment, MailSpec};
use runner_handlers::{HandlerSettings, MailLogin, MailSettings, MailTls, register_with};
use runner_sdk::testing::{Trial, TrialReport};
use runner_sdk::{Outcome, Registry, StopReason};
use smtp::{Secured, SmtpSink};

fn template(text: &str) -> FunctionTemplate {
    FunctionTemplate::parse(text).unwrap()
}

fn spec(to: &[&str], text: &str) -> MailSpec {
    MailSpec {
        to: to.iter().map(|to| template(to)).collect(),
        subject: template("Report {{ payload.day }}"),
        text: Some(template(text)),
        ..MailSpec::default()
    }
}

/// Settings for a server, whose certificate is trusted.
fn settings(sink: &SmtpSink, tls: MailTls, dir: &tempfile::TempDir) -> MailSettings {
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, &sink.ca).unwrap();
    MailSettings {
        host: "localhost".into(),
        port: sink.port,
        tls,
        ca_file: Some(ca_file),
        login: None,
        from: "runner@example.com".into(),
        from_name: "Der Läufer".into(),
    }
}

async fn run(spec: MailSpec, mail: MailSettings, trial: Trial) -> TrialReport {
    let functions = Functions::new(vec![Function {
        name: "report".into(),
        description: String::new(),
        kind: FunctionKind::Mail(Box::new(spec)),
        options: Default::default(),
        payload: None,
        payload_schema: None,
        limits: Vec::new(),
        notify: Default::default(),
        revision: "1".into(),
    }]);
    let settings = HandlerSettings {
        mail: Some(mail),
        ..HandlerSettings::default()
    };
    trial
        .run(register_with(Registry::new(), functions, settings))
        .await
        .unwrap()
}

fn trial() -> Trial {
    Trial::of("fn:report").payload(r#"{"day":"Monday","to":"eve@example.com"}"#)
}

/// The outcome of a message to Ann and Bob by a server that follows this script.
async fn outcome(script: &[(&'static str, &'static str)], trial: Trial) -> (Outcome, SmtpSink) {
    let dir = tempfile::tempdir().unwrap();
    let sink = SmtpSink::start(Secured::Never, script).await;
    let mail = settings(&sink, MailTls::None, &dir);
    let report = run(spec(&["ann@example.com", "bob@example.com"], "hello"), mail, trial).await;
    (report.outcome, sink)
}

#[tokio::test]
async fn a_message_arrives_however_the_connection_is_secured() {
    let dir = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for (secured, tls) in [
        (Secured::FromTheStart, MailTls::Implicit),
        (Secured::ByStartTls, MailTls::StartTls),
        (Secured::Never, MailTls::None),
    ] {
        let sink = SmtpSink::start(secured, &[]).await;
        let mut mail = settings(&sink, tls, &dir);
        mail.login = Some(MailLogin::read_from(|| Ok(("ann".into(), "pass word".into()))));
        let mut spec = spec(
            &["Ann <ann@example.com>", "{{ payload.to }}"],
            "first\n.second\n{{ payload.day }}",
        );
        spec.bcc = vec![template("hidden@example.com")];
        let report = run(spec, mail, trial()).await;
        let Outcome::Success(Some(result)) = report.outcome else {
            panic!("{tls:?}: {:?}", report.outcome)
        };
        let result: serde_json::Value = serde_json::from_slice(&result).unwrap();
        assert_eq!(
            (&result["accepted"], &result["refused"]),
            (&3.into(), &serde_json::json!([]))
        );
        let [mail] = &sink.mails()[..] else {
            panic!("{:?}", sink.commands())
        };
        assert_eq!(mail.from, "runner@example.com");
        assert_eq!(mail.to, ["ann@example.com", "eve@example.com", "hidden@example.com"]);
        assert_eq!(mail.login, Some(("ann".into(), "pass word".into())));
        assert_eq!(mail.encrypted, tls != MailTls::None);
        let (head, body) = mail.text.split_once("\n\n").unwrap();
        assert!(head.contains("Subject: Report Monday\n"), "{head}");
        assert!(head.contains("To: Ann <ann@example.com>, eve@example.com"), "{head}");
        assert!(
            head.contains("Auto-Submitted: auto-generated") && head.contains("Date: "),
            "{head}"
        );
        assert!(head.is_ascii() && head.contains("=?utf-8?"), "{head}");
        assert!(!head.contains("hidden"), "{head}");
        assert_eq!(body.trim_end(), "first\n.second\nMonday");
        ids.push(result["message_id"].as_str().unwrap().to_owned());
        assert!(head.contains(&format!("Message-ID: {}", ids[0])), "{head}");
    }
    assert_eq!(ids, ["<trial.default@example.com>"; 3], "one task has one id");
}

#[tokio::test]
async fn values_in_html_are_escaped_and_files_are_attached() {
    let dir = tempfile::tempdir().unwrap();
    let sink = SmtpSink::start(Secured::Never, &[]).await;
    let mut spec = spec(&["ann@example.com"], "plain");
    spec.html = Some(template("<p>{{ payload.who }}</p>"));
    spec.attachments = vec![MailAttachment {
        name: template("{{ payload.day }}.csv"),
        media_type: "text/csv".into(),
        content: template("a;b\n"),
    }];
    let trial = trial().payload(r#"{"day":"Monday","who":"<script>"}"#);
    let report = run(spec, settings(&sink, MailTls::None, &dir), trial).await;
    assert!(matches!(report.outcome, Outcome::Success(_)), "{:?}", report.outcome);
    let text = &sink.mails()[0].text;
    assert!(
        text.contains("<p>&lt;script&gt;</p>") && !text.contains("<script>"),
        "{text}"
    );
    for part in [
        "multipart/mixed",
        "multipart/alternative",
        "text/csv",
        "filename=\"Monday.csv\"",
        "a;b",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[tokio::test]
async fn answers_decide_whether_it_is_tried_again() {
    for (script, is_final, text) in [
        (("greeting", "421 busy"), false, "421"),
        (("greeting", "554 not here"), false, "misconfigured"),
        (("greeting", "close"), false, "localhost"),
        (("MAIL FROM", "451 later"), false, "451"),
        (("MAIL FROM", "552 too much"), true, "refused the sender"),
        (
            ("RCPT TO", "550 no such user"),
            true,
            "refused every recipient, such as ann@example.com",
        ),
        (("RCPT TO", "450 greylisted"), false, "450"),
        (("RCPT TO", "close"), false, "did not answer about a recipient"),
        (("DATA", "close"), false, "refused the message"),
        ((".", "451 later"), false, "did not accept the message"),
        ((".", "554 junk"), true, "554"),
        ((".", "close"), false, "did not accept the message"),
    ] {
        let (outcome, sink) = outcome(&[script], trial()).await;
        match &outcome {
            Outcome::Retry(error) if !is_final => assert!(error.contains(text), "{script:?}: {error}"),
            Outcome::Skip(error) if is_final => assert!(error.contains(text), "{script:?}: {error}"),
            other => panic!("{script:?}: {other:?}"),
        }
        assert_eq!(sink.mails(), [], "{script:?}");
    }
}

#[tokio::test]
async fn one_recipient_who_may_be_accepted_later_is_worth_another_attempt() {
    let script = [("RCPT TO:<ann", "550 no such user"), ("RCPT TO:<bob", "451 later")];
    let (outcome, _) = outcome(&script, trial()).await;
    assert!(
        matches!(&outcome, Outcome::Retry(e) if e.contains("bob@example.com")),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_message_that_some_may_have_is_sent_to_them_once() {
    let dir = tempfile::tempdir().unwrap();
    let sink = SmtpSink::start(Secured::Never, &[("RCPT TO:<bob", "550 no such user")]).await;
    let mail = settings(&sink, MailTls::None, &dir);
    let report = run(spec(&["ann@example.com", "bob@example.com"], "x"), mail, trial()).await;
    let Outcome::Success(Some(result)) = report.outcome else {
        panic!("{:?}", report.outcome)
    };
    let result: serde_json::Value = serde_json::from_slice(&result).unwrap();
    assert_eq!(
        (&result["accepted"], &result["refused"][0]["to"]),
        (&1.into(), &"bob@example.com".into())
    );
    assert!(
        report
            .log
            .contains("warning: localhost refused the recipient bob@example.com"),
        "{}",
        report.log
    );
    assert_eq!(sink.mails()[0].to, ["ann@example.com"]);
}

#[tokio::test]
async fn a_password_goes_to_no_server_that_is_not_secured_as_the_settings_say() {
    let dir = tempfile::tempdir().unwrap();
    for (secured, trusted, why) in [
        (Secured::Never, true, "offers no STARTTLS"),
        (Secured::ByStartTls, false, "misconfigured"),
    ] {
        let sink = SmtpSink::start(secured, &[]).await;
        let mut mail = settings(&sink, MailTls::StartTls, &dir);
        if !trusted {
            let other = SmtpSink::start(Secured::Never, &[]).await;
            std::fs::write(mail.ca_file.as_ref().unwrap(), &other.ca).unwrap();
        }
        mail.login = Some(MailLogin::read_from(|| Ok(("ann".into(), "secret".into()))));
        let outcome = run(spec(&["ann@example.com"], "x"), mail, trial()).await.outcome;
        assert!(matches!(&outcome, Outcome::Retry(e) if e.contains(why)), "{outcome:?}");
        let commands = sink.commands();
        assert!(
            !commands.iter().any(|c| c.starts_with("AUTH") || c.starts_with("MAIL")),
            "{commands:?}"
        );
    }
}

#[tokio::test]
async fn a_login_that_is_refused_is_tried_a_few_times() {
    let dir = tempfile::tempdir().unwrap();
    let sink = SmtpSink::start(Secured::Never, &[("AUTH", "535 no")]).await;
    let outcome = async |attempt| {
        let mut mail = settings(&sink, MailTls::None, &dir);
        mail.login = Some(MailLogin::read_from(|| Ok(("ann".into(), "hunter22".into()))));
        run(spec(&["ann@example.com"], "x"), mail, trial().attempt(attempt))
            .await
            .outcome
    };
    let (first, third) = (outcome(1).await, outcome(3).await);
    assert!(
        matches!(&first, Outcome::Retry(e) if e.contains("535") && !e.contains("hunter22")),
        "{first:?}"
    );
    assert!(matches!(&third, Outcome::Skip(_)), "{third:?}");
}

#[tokio::test]
async fn what_would_add_lines_to_the_head_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sink = SmtpSink::start(Secured::Never, &[]).await;
    for payload in [
        r#"{"day":"x\r\nBcc: eve@example.com","to":"ann@example.com"}"#,
        r#"{"day":"x","to":"ann@example.com\nBcc: eve@example.com"}"#,
        r#"{"day":"x\u0000","to":"ann@example.com"}"#,
        r#"{"day":"x","to":"ann@example.com>\r\nRCPT TO:<eve@example.com"}"#,
        r#"{"day":"x","to":"no address"}"#,
        r#"{"to":"ann@example.com"}"#,
        "not JSON",
    ] {
        let mail = settings(&sink, MailTls::None, &dir);
        let outcome = run(spec(&["{{ payload.to }}"], "x"), mail, trial().payload(payload))
            .await
            .outcome;
        assert!(matches!(&outcome, Outcome::Skip(_)), "{payload}: {outcome:?}");
    }
    let many: Vec<String> = (0..51).map(|n| format!("a{n}@example.com")).collect();
    let mail = settings(&sink, MailTls::None, &dir);
    let outcome = run(spec(&[&many.join(", ")], "x"), mail, trial()).await.outcome;
    assert!(
        matches!(&outcome, Outcome::Skip(e) if e.contains("51 recipients")),
        "{outcome:?}"
    );
    assert_eq!(sink.commands(), [""; 0], "nothing was sent");
}

#[tokio::test]
async fn a_silent_server_does_not_hold_the_task_beyond_its_time() {
    let limited = trial().limits(None, Some(Duration::from_millis(300)));
    let (late, _) = outcome(&[("RCPT TO", "silence")], limited).await;
    assert!(
        matches!(&late, Outcome::Retry(e) if e.contains("timeout after")),
        "{late:?}"
    );
    let trial = trial();
    let stop = trial.stop();
    stop.stop(StopReason::Cancelled);
    let (stopped, _) = outcome(&[("greeting", "silence")], trial).await;
    assert!(
        matches!(&stopped, Outcome::Retry(e) if e.contains("cancelled")),
        "{stopped:?}"
    );
}

#[test]
fn a_manifest_is_judged_before_anything_is_sent() {
    let settings = HandlerSettings::default();
    let judged = |spec: MailSpec| {
        let found = settings.check(&FunctionKind::Mail(Box::new(spec)), false).unwrap();
        (found.code, found.refused)
    };
    assert_eq!(
        judged(spec(&["ann@example.com"], "x")),
        ("E133", false),
        "no server is set"
    );
    assert_eq!(judged(spec(&["ann"], "x")), ("E320", true));
    assert_eq!(judged(spec(&["ann@example.com", "a@b@c"], "x")), ("E320", true));
    let mut wrong = spec(&["ann@example.com"], "x");
    wrong.attachments = vec![MailAttachment {
        name: template("a"),
        media_type: "csv".into(),
        content: template("x"),
    }];
    assert_eq!(judged(wrong), ("E321", true));
    let kind = FunctionKind::Mail(Box::new(spec(&["ann@example.com"], "x")));
    assert!(!settings.runs(&kind), "its tasks are left to others");
}
