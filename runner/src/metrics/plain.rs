//! Converts OpenMetrics to the older text format 0.0.4, the only one that some scrapers read.
//!
//! Accepts text that this program wrote; not a general parser.

/// The same metrics in text format 0.0.4: a counter's family has the name of its samples, there are no units and no end
/// mark, and quotes in help texts are not escaped.
#[must_use]
pub fn plain(open: &str) -> String {
    let mut out = String::with_capacity(open.len());
    // The name in a help line depends on the type, which follows it.
    let mut help: Option<(&str, &str)> = None;
    for line in open.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ');
        } else if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap_or((typed, "unknown"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "unknown" => ("", "untyped"),
                same => ("", same),
            };
            if let Some((_, text)) = help.take().filter(|(described, _)| *described == name) {
                let text = text.replace("\\\"", "\"");
                out.push_str(&format!("# HELP {name}{suffix} {text}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// A label value with the three characters escaped that the format requires.
#[must_use]
pub fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_named_as_the_format_wants_them() {
        let open = "# HELP a_b Said \\\"so\\\".\n# TYPE a_b counter\na_b_total{q=\"x\"} 3\n\
                    # HELP t_seconds Time.\n# TYPE t_seconds histogram\n# UNIT t_seconds seconds\nt_seconds_sum 1.5\n\
                    t_seconds_count 1\nt_seconds_bucket{le=\"+Inf\"} 1\n# TYPE g gauge\ng 0\n# TYPE v info\nv_info{x=\"1\"} 1\n# EOF\n";
        let expected = "# HELP a_b_total Said \"so\".\n# TYPE a_b_total counter\na_b_total{q=\"x\"} 3\n\
                        # HELP t_seconds Time.\n# TYPE t_seconds histogram\nt_seconds_sum 1.5\n\
                        t_seconds_count 1\nt_seconds_bucket{le=\"+Inf\"} 1\n# TYPE g gauge\ng 0\n# TYPE v_info gauge\nv_info{x=\"1\"} 1\n";
        assert_eq!(plain(open), expected);
    }
}
