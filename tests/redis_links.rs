//! Connections to Redis: TLS and its refusals, a Unix socket, a user with a password, a database, URLs.

use std::path::Path;
use std::time::Duration;

use runner_queue::redis::{Password, RedisBroker, RedisSettings, RedisTarget, RedisTls};
use runner_queue::{Broker as _, BrokerError, InspectQueues as _, Producer as _, Signals as _};

use crate::kit::tls::{Authority, Pair};
use crate::kit::{self, RedisServer};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(RedisTls): tls_works_with_the_right_authority, each_fault_of_tls_is_refused_with_its_reason,
            a_client_certificate_is_requested_and_sent, a_certificate_may_be_replaced_while_running,
            plain_text_at_a_tls_port_is_reported;
        needs(Redis): files_that_cannot_be_used_are_named_before_anything_connects,
            a_socket_works_and_a_url_names_it, a_user_a_password_and_a_database_come_from_a_url,
            a_login_quoted_by_the_server_is_not_shown;
    ]
}

/// A certificate with a long validity.
const GOOD: i32 = 2090;

struct Secure {
    server: RedisServer,
    port: u16,
}

fn secure(authority: &Authority, pair: &Pair, clients: &str) -> Secure {
    let port = kit::free_port();
    let text = |path: &Path| path.display().to_string();
    let (cert, key, ca) = (text(&pair.cert), text(&pair.key), text(&authority.file()));
    let server = RedisServer::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        clients,
    ]);
    Secure { server, port }
}

fn trusting(port: u16, authority: &Authority) -> RedisSettings {
    RedisSettings {
        tls: Some(RedisTls {
            ca_file: Some(authority.file()),
            ..RedisTls::default()
        }),
        ..RedisSettings::at(format!("localhost:{port}"))
    }
}

async fn refused(settings: RedisSettings) -> (&'static str, String) {
    let error = RedisBroker::connect(settings).await.expect_err("a refusal");
    (error.code(), message(&error))
}

fn message(error: &BrokerError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

async fn tls_works_with_the_right_authority() {
    let authority = Authority::new();
    let secure = secure(&authority, &authority.sign("localhost", GOOD), "no");
    let broker = RedisBroker::connect(trusting(secure.port, &authority)).await.unwrap();
    let task = runner_core::task::Task::new("x");
    broker.enqueue(&[task]).await.unwrap().remove(0).unwrap();
    let queue = runner_core::task::QueueName::default();
    // The other connections work too: the one that waits and the one that listens.
    broker
        .wait_for_work(std::slice::from_ref(&queue), Duration::from_secs(1))
        .await;
    let mut cancellations = broker.cancellations().await.unwrap();
    let id = runner_core::task::TaskId::new("a").unwrap();
    broker.cancel(&id).await.unwrap();
    assert_eq!(cancellations.recv().await.map(|asked| asked.id), Some(id));
    assert!(broker.describe().ends_with("(TLS)"), "{}", broker.describe());
}

async fn each_fault_of_tls_is_refused_with_its_reason() {
    let (ours, other) = (Authority::new(), Authority::new());
    let good = secure(&ours, &ours.sign("localhost", GOOD), "no");
    let expired = secure(&ours, &ours.sign("localhost", 2021), "no");
    let elsewhere = secure(&ours, &ours.sign("redis.example", GOOD), "no");
    let mut count = 0;
    for (what, settings, words) in [
        ("another authority", trusting(good.port, &other), "not trusted here"),
        ("expired", trusting(expired.port, &ours), "has expired"),
        (
            "another name",
            trusting(elsewhere.port, &ours),
            "not made out to localhost",
        ),
        ("a plain port", trusting(good.server.port, &ours), "TLS"),
    ] {
        let (code, text) = refused(settings).await;
        assert!(text.contains(words), "{what}: {text}");
        let expected = if what == "a plain port" {
            "broker_unavailable"
        } else {
            "broker_refused"
        };
        assert_eq!(code, expected, "{what}: {text}");
        count += 1;
    }
    // Without a file the system's authorities apply, and ours is not among them.
    let mut system = trusting(good.port, &ours);
    system.tls = Some(RedisTls::default());
    let (_, text) = refused(system).await;
    assert!(
        text.contains("not trusted here") || text.contains("names no authorities"),
        "{text}"
    );
    count += 1;
    println!("FT id=F59 result=pass refused={count}");
    // The name to verify may differ from the host connected to.
    let mut settings = trusting(elsewhere.port, &ours);
    settings.tls.as_mut().unwrap().server_name = Some("redis.example".to_owned());
    RedisBroker::connect(settings).await.unwrap();
}

async fn a_client_certificate_is_requested_and_sent() {
    let (ours, other) = (Authority::new(), Authority::new());
    let secure = secure(&ours, &ours.sign("localhost", GOOD), "yes");
    let (code, text) = refused(trusting(secure.port, &ours)).await;
    assert_eq!(code, "broker_refused", "{text}");
    assert!(text.contains("asks for a client certificate"), "{text}");
    let with = |pair: Pair| {
        let mut settings = trusting(secure.port, &ours);
        let tls = settings.tls.as_mut().unwrap();
        (tls.cert_file, tls.key_file) = (Some(pair.cert), Some(pair.key));
        settings
    };
    let (code, text) = refused(with(other.sign("client", GOOD))).await;
    assert_eq!(code, "broker_refused", "{text}");
    assert!(text.contains("our certificate"), "{text}");
    RedisBroker::connect(with(ours.sign("client", GOOD))).await.unwrap();
}

async fn a_certificate_may_be_replaced_while_running() {
    let ours = Authority::new();
    let pair = ours.sign("localhost", GOOD);
    let secure = secure(&ours, &pair, "no");
    let settings = trusting(secure.port, &ours);
    let right = std::fs::read(ours.file()).unwrap();
    std::fs::write(ours.file(), std::fs::read(Authority::new().file()).unwrap()).unwrap();
    let broker = RedisBroker::lazy(&settings).unwrap();
    assert!(message(&broker.now().await.unwrap_err()).contains("not trusted here"));
    std::fs::write(ours.file(), right).unwrap();
    kit::eventually("the broker connects with the new file", || async {
        broker.now().await.map(drop).map_err(|error| message(&error))
    })
    .await;
}

async fn files_that_cannot_be_used_are_named_before_anything_connects() {
    let ours = Authority::new();
    let pair = ours.sign("localhost", GOOD);
    let with = |ca: &Path, cert: Option<&Path>, key: Option<&Path>| {
        let mut settings = trusting(1, &ours);
        settings.tls = Some(RedisTls {
            ca_file: Some(ca.to_owned()),
            cert_file: cert.map(Path::to_owned),
            key_file: key.map(Path::to_owned),
            server_name: None,
        });
        message(&RedisBroker::lazy(&settings).expect_err("a refusal"))
    };
    assert!(with(Path::new("/no/ca.pem"), None, None).contains("cannot read /no/ca.pem"));
    assert!(with(&pair.key, None, None).contains("no certificate"));
    assert!(with(&ours.file(), Some(&pair.cert), None).contains("both"));
    let swapped = with(&ours.file(), Some(&pair.cert), Some(&pair.cert));
    assert!(swapped.contains("no private key"), "{swapped}");
}

async fn plain_text_at_a_tls_port_is_reported() {
    let ours = Authority::new();
    let secure = secure(&ours, &ours.sign("localhost", GOOD), "no");
    let (code, text) = refused(RedisSettings::at(format!("localhost:{}", secure.port))).await;
    assert_eq!(code, "broker_unavailable", "{text}");
    assert!(text.contains("TLS"), "{text}");
}

async fn a_socket_works_and_a_url_names_it() {
    let path = kit::scratch("socket").join("redis.sock");
    let text = path.display().to_string();
    let server = RedisServer::start(&["--unixsocket", &text]);
    let settings = RedisSettings::from_url(&format!("redis-socket://{text}?db=3")).unwrap();
    assert_eq!(settings.target, RedisTarget::Socket(path));
    let broker = RedisBroker::connect(settings).await.unwrap();
    broker
        .enqueue(&[runner_core::task::Task::new("x")])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    let there = RedisSettings::from_url(&format!("redis://127.0.0.1:{}/3", server.port)).unwrap();
    assert_eq!(
        RedisBroker::connect(there).await.unwrap().queues().await.unwrap().len(),
        1
    );
    let none = RedisSettings::from_url("unix:///no/such.sock").unwrap();
    let (code, said) = refused(none).await;
    assert_eq!(code, "broker_unavailable", "{said}");
    assert!(said.contains("/no/such.sock"), "{said}");
}

async fn a_user_a_password_and_a_database_come_from_a_url() {
    let server = RedisServer::start(&["--user", "app", "on", ">p@ss", "~*", "&*", "+@all"]);
    let at = |login: &str| RedisSettings::from_url(&format!("redis://{login}@127.0.0.1:{}/5", server.port)).unwrap();
    let broker = RedisBroker::connect(at("app:p%40ss")).await.unwrap();
    assert!(broker.describe().ends_with("/5"), "{}", broker.describe());
    for wrong in ["app:hunter2", "stranger:hunter2"] {
        let (code, text) = refused(at(wrong)).await;
        assert_eq!(code, "broker_auth", "{text}");
        assert!(text.contains("WRONGPASS") && !text.contains("hunter2"), "{text}");
    }
}

async fn a_login_quoted_by_the_server_is_not_shown() {
    // Like a proxy without AUTH, or a server whose operator renamed it.
    let server = RedisServer::start(&["--rename-command", "AUTH", "secret-auth"]);
    let mut settings = RedisSettings::at(format!("127.0.0.1:{}", server.port));
    settings.password = Some(Password::new("hunter2"));
    let error = RedisBroker::connect(settings).await.unwrap_err();
    let text = format!("{} {error:?}", message(&error));
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(error.code(), "broker_auth", "{text}");
}
