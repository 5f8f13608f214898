//! Reads `mail`: the server that takes messages. The names are those of the Go service; `tls` and `ca_file` are new.
//!
//! A section of that service may say too little for this program, which then starts and leaves mail to other workers.

use std::net::IpAddr;

use runner_handlers::{MailLogin, MailSettings, MailTls};

use super::host::database_host;
use super::section::Section;

const TLS: [(&str, MailTls); 3] = [
    ("implicit", MailTls::Implicit),
    ("starttls", MailTls::StartTls),
    ("none", MailTls::None),
];

/// The port of servers with TLS from the start.
const IMPLICIT_PORT: u16 = 465;

/// The port on which servers take messages otherwise (RFC 6409).
const SUBMISSION_PORT: u16 = 587;

/// The server; `None` if there is none, or if what is written does not suffice.
pub fn mail(root: &Section<'_>) -> Option<MailSettings> {
    let section = root.section("mail");
    let settings = read(&section);
    let written = section.written();
    let place = section.place();
    section.finish();
    if settings.is_none() && written {
        let message = "mail needs host and fromAddr; functions that send mail do not run here".to_owned();
        root.reader().warning("CFG_MAIL", &place, message, None);
    }
    settings
}

fn read(section: &Section<'_>) -> Option<MailSettings> {
    let text = |key| section.text(key).map_or_else(String::new, |found| found.value);
    let host = section.text("host");
    let port = section.number("port", 1..=u16::MAX);
    let tls = section.choice("tls", &TLS);
    let ca_file = section.path("ca_file").map(|found| found.value);
    let user = section.reference("username", true).map(|found| found.value);
    let password = section.late_secret("password").map(|found| found.value);
    let from = section.text("fromAddr");
    let from_name = text("fromName");
    let default_port = port.unwrap_or(match tls {
        Some(MailTls::Implicit) => IMPLICIT_PORT,
        _ => SUBMISSION_PORT,
    });
    let wrong = |place: &super::reader::SettingPlace, message: String, hint: &str| {
        section.reader().error_hint("CFG_MAIL", place, message, hint);
    };
    let host_place = host.as_ref().map(|found| found.place.clone())?;
    let host = host.map(|found| found.value.trim().to_owned())?;
    if host.is_empty() {
        return None;
    }
    let (host, port) = match database_host(&host, default_port) {
        Ok(found) if !found.0.starts_with('/') => found,
        Ok(_) => {
            let message = "mail.host must be a name or an address".to_owned();
            wrong(&host_place, message, "for example smtp.example.com");
            return None;
        }
        Err(why) => {
            let message = format!("mail.host is not host or host:port: {why}");
            wrong(&host_place, message, "for example smtp.example.com:587");
            return None;
        }
    };
    let tls = tls.unwrap_or(match port {
        IMPLICIT_PORT => MailTls::Implicit,
        _ => MailTls::StartTls,
    });
    if tls == MailTls::None && !is_this_machine(&host) {
        let message = format!("mail.tls: none is for servers on this machine only, and {host} is not known to be one");
        wrong(&host_place, message, "write starttls or implicit");
    }
    let from = from.filter(|found| !found.value.trim().is_empty())?;
    if !from.value.contains('@') || from.value.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let message = format!("mail.fromAddr {:?} is not an address", from.value);
        wrong(&from.place, message, "for example runner@example.com");
        return None;
    }
    let login = user.filter(|user| !user.is_empty()).map(|user| {
        let password = password.unwrap_or_default();
        MailLogin::read_from(move || Ok((user.read()?, password.read()?)))
    });
    Some(MailSettings {
        host,
        port,
        tls,
        ca_file,
        login,
        from: from.value.trim().to_owned(),
        from_name,
    })
}

fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::{Environment, Settings};

    fn parse(text: &str) -> Settings {
        Settings::parse("c", text, &Environment::default()).unwrap()
    }

    #[test]
    fn the_section_of_the_go_service_is_read() {
        let mail = |text: &str| parse(text).handlers.mail.unwrap();
        let full = mail(
            "mail: {host: smtp.example.com, port: 465, username: u, password: p, fromAddr: a@example.com, fromName: A B}",
        );
        assert_eq!((full.host.as_str(), full.port), ("smtp.example.com", 465));
        assert_eq!((full.tls, full.from_name.as_str()), (MailTls::Implicit, "A B"));
        assert!(full.login.is_some() && !format!("{full:?}").contains("\"p\""));
        let plain = mail("mail: {host: 'smtp:25', fromAddr: a@example.com}");
        assert_eq!(
            (plain.port, plain.tls, plain.login.is_none()),
            (25, MailTls::StartTls, true)
        );
        let local = mail("mail: {host: '[::1]', tls: none, fromAddr: a@example.com}");
        assert_eq!(
            (local.host.as_str(), local.port, local.tls),
            ("::1", 587, MailTls::None)
        );
    }

    #[test]
    fn a_section_that_says_too_little_is_a_warning() {
        for text in [
            "mail: {host: 'smtp:25', username: a}",
            "mail: {fromAddr: a@b.c}",
            "mail: {host: ''}",
        ] {
            let settings = parse(text);
            assert!(settings.handlers.mail.is_none());
            let codes: Vec<_> = settings.warnings.iter().map(|w| w.code.as_str()).collect();
            assert_eq!(codes, ["CFG_MAIL"], "{text}");
        }
        assert!(parse("").warnings.is_empty());
    }

    #[test]
    fn what_would_send_passwords_in_the_clear_is_refused() {
        for text in [
            "mail: {host: smtp.example.com, tls: none, fromAddr: a@example.com}",
            "mail: {host: 'smtp://x', fromAddr: a@example.com}",
            "mail: {host: /run/smtp, fromAddr: a@example.com}",
            "mail: {host: smtp, fromAddr: example.com}",
            "mail: {host: smtp, tls: ssl, fromAddr: a@example.com}",
            "mail: {host: smtp, port: 0, fromAddr: a@example.com}",
            "mail: {host: smtp, from: a@example.com}",
        ] {
            assert!(Settings::parse("c", text, &Environment::default()).is_err(), "{text}");
        }
    }
}
