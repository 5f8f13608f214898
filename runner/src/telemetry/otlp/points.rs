//! The figures of `/metrics` as OTLP's messages, so that both ways show the same numbers from one registry.
//!
//! Accepts text that this program wrote; not a general parser.

use std::collections::BTreeMap;

use super::encode::{Sender, scope, text};
use super::wire;

/// When the counters began, and now; nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct CountedFor {
    pub(super) start: u64,
    pub(super) now: u64,
}

/// The call that hands over these figures, which are OpenMetrics text. `None` if there are none.
pub(super) fn request(sender: &Sender, open: &str, span: CountedFor) -> Option<wire::MetricsRequest> {
    let metrics: Vec<wire::Metric> = families(open)
        .into_iter()
        .filter_map(|family| family.metric(span))
        .collect();
    (!metrics.is_empty()).then(|| wire::MetricsRequest {
        resource_metrics: vec![wire::ResourceMetrics {
            resource: Some(sender.resource.clone()),
            scope_metrics: vec![wire::ScopeMetrics {
                scope: Some(scope()),
                metrics,
            }],
        }],
    })
}

#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    kind: &'a str,
    help: &'a str,
    unit: &'a str,
    samples: Vec<Sample<'a>>,
}

struct Sample<'a> {
    /// What its name has behind that of the family.
    suffix: &'a str,
    labels: Vec<(&'a str, String)>,
    value: &'a str,
}

fn families(open: &str) -> Vec<Family<'_>> {
    let mut all: Vec<Family<'_>> = Vec::new();
    let mut help = None;
    for line in open.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' ')) {
            let help = help.take().filter(|(described, _)| *described == name);
            all.push(Family {
                name,
                kind,
                help: help.map_or("", |(_, text)| text),
                ..Family::default()
            });
        } else if let (Some(unit), Some(family)) = (line.strip_prefix("# UNIT "), all.last_mut()) {
            family.unit = unit.rsplit(' ').next().unwrap_or_default();
        } else if let Some(family) = all.last_mut().filter(|_| !line.starts_with('#')) {
            let sample = sample(line, family.name);
            family.samples.extend(sample);
        }
    }
    all
}

fn sample<'a>(line: &'a str, family: &str) -> Option<Sample<'a>> {
    let rest = line.strip_prefix(family)?;
    let end = rest.find(['{', ' '])?;
    let (suffix, rest) = rest.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inner) => labels(inner)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_whitespace().next()?;
    Some(Sample { suffix, labels, value })
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut all = Vec::new();
    loop {
        if let Some(end) = rest.strip_prefix('}') {
            return Some((all, end));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let (mut value, mut end, mut escaped) = (String::new(), None, false);
        for (at, sign) in quoted.char_indices() {
            match (escaped, sign) {
                (false, '"') => {
                    end = Some(at + 1);
                    break;
                }
                (false, '\\') => {
                    escaped = true;
                    continue;
                }
                (true, 'n') => value.push('\n'),
                (_, sign) => value.push(sign),
            }
            escaped = false;
        }
        all.push((name, value));
        let after = quoted.get(end?..)?;
        rest = after.strip_prefix(',').unwrap_or(after);
    }
}

fn pairs<'a>(labels: impl IntoIterator<Item = &'a (&'a str, String)>) -> Vec<wire::KeyValue> {
    labels.into_iter().map(|(name, value)| text(name, value)).collect()
}

impl Family<'_> {
    fn metric(self, span: CountedFor) -> Option<wire::Metric> {
        let data = match self.kind {
            "counter" => wire::MetricData::Sum(wire::Sum {
                data_points: self.numbers("_total", span),
                aggregation_temporality: wire::CUMULATIVE,
                is_monotonic: true,
            }),
            "histogram" => wire::MetricData::Histogram(wire::Histogram {
                data_points: self.histograms(span),
                aggregation_temporality: wire::CUMULATIVE,
            }),
            "info" => wire::MetricData::Gauge(wire::Gauge {
                data_points: self.numbers("_info", span),
            }),
            _ => wire::MetricData::Gauge(wire::Gauge {
                data_points: self.numbers("", span),
            }),
        };
        let none = match &data {
            wire::MetricData::Sum(sum) => sum.data_points.is_empty(),
            wire::MetricData::Gauge(gauge) => gauge.data_points.is_empty(),
            wire::MetricData::Histogram(histogram) => histogram.data_points.is_empty(),
        };
        (!none).then(|| wire::Metric {
            name: self.name.to_owned(),
            description: self.help.trim_end_matches('.').to_owned(),
            // The code that OpenTelemetry wants; the name has the word, as Prometheus wants it.
            unit: if self.unit == "seconds" || self.name.ends_with("_seconds") {
                "s".to_owned()
            } else {
                String::new()
            },
            data: Some(data),
        })
    }

    fn numbers(&self, suffix: &str, span: CountedFor) -> Vec<wire::NumberPoint> {
        let own = self.samples.iter().filter(|sample| sample.suffix == suffix);
        own.filter_map(|sample| {
            let value = match sample.value.parse() {
                Ok(number) => wire::NumberValue::Int(number),
                Err(_) => wire::NumberValue::Double(sample.value.parse().ok()?),
            };
            Some(wire::NumberPoint {
                start_time_unix_nano: span.start,
                time_unix_nano: span.now,
                attributes: pairs(&sample.labels),
                value: Some(value),
            })
        })
        .collect()
    }

    /// One for each set of labels besides the bound of a bucket.
    fn histograms(&self, span: CountedFor) -> Vec<wire::HistogramPoint> {
        let mut all: BTreeMap<Vec<&(&str, String)>, wire::HistogramPoint> = BTreeMap::new();
        for sample in &self.samples {
            let own: Vec<_> = sample.labels.iter().filter(|(name, _)| *name != "le").collect();
            let attributes = pairs(own.iter().copied());
            let point = all.entry(own).or_insert_with(|| wire::HistogramPoint {
                start_time_unix_nano: span.start,
                time_unix_nano: span.now,
                attributes,
                ..wire::HistogramPoint::default()
            });
            match sample.suffix {
                "_sum" => point.sum = sample.value.parse().ok(),
                "_count" => point.count = sample.value.parse().unwrap_or(0),
                "_bucket" => {
                    let le = sample.labels.iter().find(|(name, _)| *name == "le");
                    let bound: Option<f64> = le.and_then(|(_, bound)| bound.parse().ok());
                    // The text has what is at most the bound, OTLP what is in each bucket.
                    let before: u64 = point.bucket_counts.iter().sum();
                    let so_far: u64 = sample.value.parse().unwrap_or(before);
                    point.bucket_counts.push(so_far.saturating_sub(before));
                    point.explicit_bounds.extend(bound.filter(|bound| bound.is_finite()));
                }
                _ => {}
            }
        }
        // One bucket more than bounds, or none at all.
        all.into_values()
            .filter(|point| point.bucket_counts.len() == point.explicit_bounds.len() + 1)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use std::time::Duration;

    use runner_core::task::AttemptOutcome;

    use super::*;
    use crate::metrics::Metrics;

    const SPAN: CountedFor = CountedFor { start: 1, now: 2 };

    fn metrics_of(open: &str) -> Vec<wire::Metric> {
        let request = request(&Sender::of_process("x", "host:1"), open, SPAN);
        let resources = request.map_or_else(Vec::new, |request| request.resource_metrics);
        resources
            .into_iter()
            .flat_map(|one| one.scope_metrics)
            .flat_map(|one| one.metrics)
            .collect()
    }

    #[test]
    fn every_figure_of_the_registry_is_there_with_its_value() {
        let metrics = Metrics::default();
        metrics.attempt("de\"fa\\ult", AttemptOutcome::Success, Duration::from_millis(3));
        metrics.attempt("de\"fa\\ult", AttemptOutcome::Success, Duration::from_secs(7200));
        metrics.attempt("low", AttemptOutcome::Retry, Duration::from_millis(30));
        metrics.set_active(4);
        let found = metrics_of(&metrics.render());
        let of = |name: &str| found.iter().find(|metric| metric.name == name).unwrap();
        let Some(wire::MetricData::Sum(sum)) = &of("runner_tasks_processed").data else {
            panic!("no sum");
        };
        let all: Vec<_> = sum
            .data_points
            .iter()
            .map(|point| (&point.attributes[0], &point.value))
            .collect();
        assert!(sum.is_monotonic);
        assert!(
            all.contains(&(&text("queue", "de\"fa\\ult"), &Some(wire::NumberValue::Int(2)))),
            "{all:?}"
        );
        let duration = of("runner_task_duration_seconds");
        assert_eq!(duration.unit, "s");
        let Some(wire::MetricData::Histogram(histogram)) = &duration.data else {
            panic!("no histogram");
        };
        assert_eq!(histogram.data_points.len(), 2);
        let point = histogram.data_points.iter().find(|point| point.count == 2).unwrap();
        assert_eq!(point.bucket_counts, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((point.explicit_bounds.len(), point.sum), (10, Some(7200.003)));
        let Some(wire::MetricData::Gauge(gauge)) = &of("runner_worker_active").data else {
            panic!("no gauge");
        };
        assert_eq!(gauge.data_points[0].value, Some(wire::NumberValue::Int(4)));
        assert!(found.iter().all(|metric| !metric.description.is_empty()));
    }

    #[test]
    fn nothing_is_sent_of_nothing() {
        assert!(metrics_of("").is_empty());
        assert!(metrics_of("# HELP a b\n# TYPE a counter\n").is_empty());
        assert!(
            metrics_of("# TYPE a gauge\na{b=\"c} 1\n").is_empty(),
            "a label that does not end"
        );
    }
}
