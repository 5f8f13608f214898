//! A measured value, as a line for people and as an object for programs.

use serde_json::{Value, json};

use super::meter::{Sample, at, median};

/// The headings of [`Figure::row`].
pub(super) const HEADINGS: [&str; 8] = [
    "MEASURE",
    "VALUE",
    "UNIT",
    "SAMPLES",
    "CEILING",
    "RATIO",
    "CPU",
    "STORE CPU",
];

/// With fewer values the 99th percentile would be the largest one.
const ENOUGH: usize = 100;

/// One measured value.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    /// How many values it was taken from, if there were several.
    pub(super) samples: Option<usize>,
    /// For rates only.
    pub(super) costs: Option<Costs>,
}

/// What a rate cost, and what it is compared with.
pub(super) struct Costs {
    /// How often it was measured; all values are medians.
    pub(super) rounds: usize,
    pub(super) ours: Sample,
    pub(super) ceiling: Option<Sample>,
}

impl Figure {
    /// A value alone.
    pub(super) fn plain(name: &'static str, value: f64, unit: &'static str) -> Self {
        Self {
            name,
            value,
            unit,
            samples: None,
            costs: None,
        }
    }

    /// Median and 99th percentile of values, the latter only if there are enough of them.
    pub(super) fn shares(names: [&'static str; 2], values: &[f64], unit: &'static str) -> Vec<Self> {
        let shares = names.into_iter().zip([(0.5, 1), (0.99, ENOUGH)]);
        let known = shares.filter(|(_, (_, needed))| values.len() >= *needed);
        let figures = known.map(|(name, (share, _))| Self {
            samples: Some(values.len()),
            ..Self::plain(name, at(values.iter().copied(), share), unit)
        });
        figures.collect()
    }

    /// The medians of a rate; the ceiling is the best of its forms.
    pub(super) fn rate(name: &'static str, ours: &[Sample], forms: &[Vec<Sample>]) -> Self {
        let best = forms
            .iter()
            .map(|form| middle(form))
            .max_by(|a, b| a.rate.total_cmp(&b.rate));
        let rounds = ours.len();
        let ours = middle(ours);
        Self {
            name,
            value: ours.rate,
            unit: "tasks/s",
            samples: Some(rounds),
            costs: Some(Costs {
                rounds,
                ours,
                ceiling: best,
            }),
        }
    }

    /// The object of `--json`; what was not measured is left out.
    pub(super) fn object(&self, broker: &str) -> Value {
        let mut object = json!({"measure": self.name, "value": self.value, "unit": self.unit, "broker": broker});
        if let Some(samples) = self.samples.filter(|_| self.costs.is_none()) {
            object["samples"] = json!(samples);
        }
        if let Some(costs) = &self.costs {
            object["rounds"] = json!(costs.rounds);
            object["cpu_us"] = json!(costs.ours.cpu);
            if let Some(cpu) = costs.ours.store_cpu {
                object["store_cpu_us"] = json!(cpu);
            }
            if let Some(ceiling) = &costs.ceiling {
                object["ceiling"] = json!(ceiling.rate);
                object["ratio"] = json!(self.value / ceiling.rate.max(1e-9));
                object["ceiling_cpu_us"] = json!(ceiling.cpu);
                if let Some(cpu) = ceiling.store_cpu {
                    object["ceiling_store_cpu_us"] = json!(cpu);
                }
            }
        }
        object
    }

    /// The line of the table.
    pub(super) fn row(&self) -> Vec<String> {
        let costs = self.costs.as_ref();
        let ceiling = costs.and_then(|c| c.ceiling.as_ref());
        let cell = |value: Option<f64>, unit: &str| value.map_or_else(String::new, |v| format!("{v:.1}{unit}"));
        vec![
            self.name.to_owned(),
            format!("{:.2}", self.value),
            self.unit.to_owned(),
            self.samples.map_or_else(String::new, |n| n.to_string()),
            cell(ceiling.map(|c| c.rate), ""),
            ceiling.map_or_else(String::new, |c| format!("{:.2}", self.value / c.rate.max(1e-9))),
            cell(costs.map(|c| c.ours.cpu), " µs"),
            cell(costs.and_then(|c| c.ours.store_cpu), " µs"),
        ]
    }
}

fn middle(samples: &[Sample]) -> Sample {
    let store = samples.iter().filter_map(|s| s.store_cpu).collect::<Vec<_>>();
    Sample {
        rate: median(samples.iter().map(|s| s.rate)),
        cpu: median(samples.iter().map(|s| s.cpu)),
        store_cpu: (!store.is_empty()).then(|| median(store)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample(rate: f64) -> Sample {
        Sample {
            rate,
            cpu: 1.0,
            store_cpu: None,
        }
    }

    #[test]
    fn the_ratio_is_to_the_best_form() {
        let ours = [sample(10.0), sample(30.0), sample(20.0)];
        let forms = [vec![sample(25.0)], vec![sample(40.0)]];
        let object = Figure::rate("drain", &ours, &forms).object("here");
        assert_eq!(object["value"], 20.0);
        assert_eq!(object["ceiling"], 40.0);
        assert_eq!(object["ratio"], 0.5);
        assert_eq!(object["rounds"], 3);
        assert!(object.get("store_cpu_us").is_none());
    }

    #[test]
    fn few_values_have_no_99th_percentile() {
        let names = ["p50", "p99"];
        let of = |n: usize| Figure::shares(names, &vec![1.0; n], "ms");
        let names = |figures: &[Figure]| figures.iter().map(|f| (f.name, f.samples)).collect::<Vec<_>>();
        assert!(of(0).is_empty());
        assert_eq!(names(&of(99)), [("p50", Some(99))]);
        assert_eq!(names(&of(100)), [("p50", Some(100)), ("p99", Some(100))]);
        assert_eq!(of(99)[0].object("here")["samples"], 99);
        assert_eq!(of(99)[0].row().len(), HEADINGS.len());
    }

    #[test]
    fn a_value_alone_has_no_costs() {
        let object = Figure::plain("idle, cpu", 0.2, "%").object("here");
        assert_eq!(object.as_object().unwrap().len(), 4);
    }
}
