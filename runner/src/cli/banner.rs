//! The banner of a start: what was loaded, where the dashboard is, what fires next.

use std::net::SocketAddr;

use jiff::Timestamp;
use runner_core::schedule::{Definition, Plan, Severity};

use crate::config::{BrokerSettings, Settings};
use crate::log::Format;
use crate::source::SourceStatus;
use crate::text::signs;

/// How many upcoming occurrences are shown.
pub(super) const NEXT: usize = 3;

/// Shows the banner: on standard output if that is a terminal, otherwise as log lines.
pub(super) fn print(
    settings: &Settings,
    plan: &Plan,
    sources: &[SourceStatus],
    coming: &[(Timestamp, &Definition)],
    dashboard: Option<SocketAddr>,
    probes: Option<SocketAddr>,
) {
    let text = text(settings, plan, sources, coming, dashboard, probes);
    if settings.log.format == Format::Console && settings.log.console {
        // The program runs even if standard output is closed.
        drop(super::print::text(&text));
    } else {
        text.lines()
            .for_each(|line| tracing::info!(target: "runner", "{}", line.trim()));
    }
}

fn text(
    settings: &Settings,
    plan: &Plan,
    sources: &[SourceStatus],
    coming: &[(Timestamp, &Definition)],
    dashboard: Option<SocketAddr>,
    probes: Option<SocketAddr>,
) -> String {
    let mut out = String::new();
    // A name chosen elsewhere must not look like a line of its own.
    let mut add = |line: &str| {
        out.push_str(&signs::line(line));
        out.push('\n');
    };
    let config = settings
        .origin
        .as_ref()
        .map_or("defaults (no configuration file)".to_owned(), |p| {
            p.display().to_string()
        });
    let program = concat!("runner ", env!("CARGO_PKG_VERSION"));
    let who = match settings.web.name.as_str() {
        "runner" => program.to_owned(),
        name => format!("{name}: {program}"),
    };
    add(&format!("{who} with {config}"));
    let broker = match &settings.broker {
        BrokerSettings::Embedded { path } => format!("embedded, {}", path.display()),
        BrokerSettings::Redis(settings) => format!("redis {}", settings.place()),
    };
    add(&format!("  broker     {broker}"));
    let enabled = plan.schedules.values().filter(|d| d.enabled).count();
    let from = |s: &SourceStatus| {
        let unread = s.state.reason().is_some() && !s.is_absent();
        let unread = if unread { ", which cannot be read now" } else { "" };
        format!("{} from {} ({}){unread}", s.schedules, s.source.as_str(), s.place)
    };
    let places: Vec<String> = sources.iter().map(from).collect();
    add(&format!("  schedules  {enabled} enabled: {}", places.join(", ")));
    let errors = plan.problems.iter().filter(|p| p.severity == Severity::Error).count();
    if errors > 0 {
        add(&format!(
            "  problems   {errors}; the dashboard and `runner ls schedules` show them"
        ));
    }
    if let Some(address) = dashboard {
        let local = format!("http://{address}/queue");
        add(&match &settings.web.public_url {
            Some(public) => format!("  dashboard  {}, by a proxy to {local}", public.first_page()),
            None => format!("  dashboard  {local}"),
        });
    }
    if let Some(address) = probes {
        add(&format!("  probes     http://{address}/metrics, /healthz, /readyz"));
    } else if dashboard.is_none() && cfg!(feature = "web") {
        add("  probes     none; server.metrics_addr gives /healthz, /readyz and /metrics an address");
    }
    for (at, definition) in coming {
        let name = &definition.name;
        let at = at
            .to_zoned(settings.source.zone.clone())
            .strftime("%Y-%m-%d %H:%M:%S %:z");
        add(&format!("  next       {at}  {name}"));
    }
    out
}
