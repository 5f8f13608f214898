//! Output of a fault test: one line with its figures, and the same as JSON.

use std::fmt::{Display, Write as _};
use std::path::PathBuf;

use serde_json::{Map, Value};

/// The figures of one fault test, by its number in the catalogue.
#[derive(Debug)]
pub struct Fault {
    id: &'static str,
    figures: Vec<(String, String)>,
    broken: Vec<String>,
}

/// Whether the long forms of the tests are enabled.
pub fn long() -> bool {
    std::env::var_os("RUNNER_LONG").is_some()
}

impl Fault {
    /// A test that has measured nothing yet.
    pub fn new(id: &'static str) -> Self {
        Self {
            id,
            figures: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// Records a figure.
    pub fn figure(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.figures.push((name.to_owned(), value.to_string()));
        self
    }

    /// Records a figure and whether it is acceptable.
    pub fn require(&mut self, name: &str, value: impl Display, holds: bool) -> &mut Self {
        if !holds {
            self.broken.push(format!("{name}={value}"));
        }
        self.figure(name, value)
    }

    /// Prints the line and writes the record.
    ///
    /// # Panics
    ///
    /// If something required did not hold, with `details`.
    pub fn end(self, details: impl FnOnce() -> String) {
        let result = if self.broken.is_empty() { "pass" } else { "fail" };
        let mut line = format!(
            "FT id={} result={result} form={}",
            self.id,
            if long() { "long" } else { "short" }
        );
        let mut record = Map::new();
        record.insert("id".to_owned(), self.id.into());
        record.insert("result".to_owned(), result.into());
        for (name, value) in &self.figures {
            write!(line, " {name}={value}").expect("text");
            let value = value
                .parse::<f64>()
                .map_or_else(|_| Value::from(value.as_str()), Value::from);
            record.insert(name.clone(), value);
        }
        println!("{line}");
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("fault-{}.json", self.id));
        std::fs::write(&path, Value::Object(record).to_string()).expect("the record of a fault test");
        assert!(
            self.broken.is_empty(),
            "{}: {}\n{}",
            self.id,
            self.broken.join(", "),
            details()
        );
    }
}
