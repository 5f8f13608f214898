//! The handler of notifications: what it sends, puts off and leaves to others.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use runner_core::clock::{Clock as _, SystemClock};
use runner_core::function::Functions;
use runner_core::notification::{NOTIFICATION_TYPE, Notification, NotifyOn, PutOff};
use runner_core::template::{JsonTemplate, Template};
use runner_handlers::{
    Channel, ChannelTemplate, ChannelText, Channels, Escapes, HandlerSettings, LimitedChannel, RobotSignature,
    register_with,
};
use runner_sdk::testing::Trial;
use runner_sdk::{Handlers, Outcome, Registry};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Answers 200 to every call and keeps its first line and its body.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<(String, Value)>>>);

impl Receiver {
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let receiver = Self::default();
        let calls = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                calls.answer(stream).await;
            }
        });
        (receiver, url)
    }

    async fn answer(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        let (mut first, mut length) = (String::new(), 0);
        stream.read_line(&mut first).await.unwrap();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            if let Some(bytes) = line.to_lowercase().strip_prefix("content-length:") {
                length = bytes.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let call = (
            first.trim().to_owned(),
            serde_json::from_slice(&body).unwrap_or_default(),
        );
        self.0.lock().unwrap().push(call);
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    fn calls(&self) -> Vec<(String, Value)> {
        self.0.lock().unwrap().clone()
    }
}

fn text(value: &str) -> ChannelText {
    let value = value.to_owned();
    ChannelText::read_from(move || Ok(value.clone()))
}

fn with(channel: Channel, per_minute: u32) -> Handlers {
    let channels = BTreeMap::from([("ops".to_owned(), LimitedChannel { channel, per_minute })]);
    let settings = HandlerSettings {
        channels: Channels::new(channels),
        ..HandlerSettings::default()
    };
    register_with(Registry::new(), Functions::default(), settings)
        .build()
        .unwrap()
}

fn webhook(url: &str) -> Channel {
    Channel::Webhook {
        url: text(url),
        secret: None,
    }
}

fn service(url: &str, body: Value, sign: Option<RobotSignature>) -> Channel {
    let template = ChannelTemplate {
        url: Template::parse("{{ url }}").unwrap(),
        body: JsonTemplate::new(body).unwrap(),
        defaults: BTreeMap::new(),
        accept: None,
        escape: Escapes::new(vec![("<".to_owned(), "&lt;".to_owned())]),
        sign,
    };
    let values = BTreeMap::from([("url".to_owned(), text(url)), ("secret".to_owned(), text("s3cret-key"))]);
    Channel::Service {
        template: Arc::new(template),
        values,
    }
}

fn failure(channel: &str, at: Timestamp) -> Notification {
    let mut failure = Notification::new(channel, NotifyOn::Failure, at, "<import> failed");
    failure.function = Some("import".to_owned());
    failure
}

async fn outcome(handlers: &Handlers, notification: &Notification, attempt: u32) -> Outcome {
    let trial = Trial::of(NOTIFICATION_TYPE)
        .payload(serde_json::to_vec(notification).unwrap())
        .attempt(attempt);
    trial.run_with(handlers).await.unwrap().outcome
}

fn put_off(outcome: &Outcome) -> Option<PutOff> {
    match outcome {
        Outcome::Success(Some(result)) => PutOff::of_result(result),
        _ => None,
    }
}

#[tokio::test]
async fn only_the_first_attempt_may_find_the_limit_reached() {
    let (receiver, url) = Receiver::start().await;
    let handlers = with(webhook(&url), 1);
    let one = failure("ops", SystemClock.now());
    assert_eq!(put_off(&outcome(&handlers, &one, 1).await), None);
    let second = put_off(&outcome(&handlers, &one, 1).await).unwrap();
    assert!(second.waits_in.starts_with("notify:ops:"), "{second:?}");
    assert_eq!(receiver.calls().len(), 1);
    // It may have been sent by the first attempt, whose answer was lost.
    assert_eq!(put_off(&outcome(&handlers, &one, 2).await), None);
    let combined = Notification { combined: 3, ..one };
    assert_eq!(put_off(&outcome(&handlers, &combined, 1).await), None);
    assert_eq!(receiver.calls().len(), 3);
}

#[tokio::test]
async fn a_channel_of_other_instances_uses_up_no_attempt() {
    let handlers = with(webhook("http://127.0.0.1:1/"), 20);
    let now = SystemClock.now();
    let left = outcome(&handlers, &failure("elsewhere", now), 1).await;
    assert!(matches!(left, Outcome::Snooze { .. }), "{left:?}");
    let old = now - jiff::SignedDuration::from_hours(10);
    let given_up = outcome(&handlers, &failure("elsewhere", old), 1).await;
    assert!(matches!(given_up, Outcome::Skip(_)), "{given_up:?}");
}

#[tokio::test]
async fn a_test_leaves_no_incident_open_and_texts_are_escaped() {
    let (receiver, url) = Receiver::start().await;
    let body = json!({"do": "{{ action }}", "key": "{{ subject }}", "text": "{{ title }}"});
    let handlers = with(service(&url, body, None), 20);
    let now = SystemClock.now();
    let test = Notification::new("ops", NotifyOn::Test, now, "test");
    for one in [&test, &failure("ops", now)] {
        let sent = outcome(&handlers, one, 1).await;
        assert!(matches!(sent, Outcome::Success(_)), "{sent:?}");
    }
    let bodies: Vec<Value> = receiver.calls().into_iter().map(|(_, body)| body).collect();
    let expected = [
        json!({"do": "trigger", "key": "test", "text": "test"}),
        json!({"do": "resolve", "key": "test", "text": "test"}),
        json!({"do": "trigger", "key": "import", "text": "&lt;import> failed"}),
    ];
    assert_eq!(bodies, expected);
}

#[tokio::test]
async fn robots_get_signed_calls() {
    let (receiver, url) = Receiver::start().await;
    for sign in [RobotSignature::DingTalk, RobotSignature::Feishu] {
        let handlers = with(
            service(&format!("{url}?access_token=a"), json!({"text": "x"}), Some(sign)),
            20,
        );
        let sent = outcome(&handlers, &failure("ops", SystemClock.now()), 1).await;
        assert!(matches!(sent, Outcome::Success(_)), "{sent:?}");
    }
    let calls = receiver.calls();
    let (line, body) = &calls[0];
    assert!(
        line.contains("?access_token=a&timestamp=") && line.contains("&sign="),
        "{line}"
    );
    assert_eq!(body, &json!({"text": "x"}));
    let (line, body) = &calls[1];
    assert!(!line.contains("sign="), "{line}");
    assert!(body["sign"].as_str().is_some_and(|sign| sign.len() == 44), "{body}");
}
