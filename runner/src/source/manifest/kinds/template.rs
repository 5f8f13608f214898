//! Reads texts that are filled when a function runs.

use runner_core::function::FunctionTemplate;

use crate::text::yaml::{Mark, Value};
use crate::text::{Field, Report};

/// A text that is not blank.
pub(super) fn read(field: &Field<'_>, code: &str, report: &mut Report<'_>) -> Option<FunctionTemplate> {
    let text = field.text(code, report)?;
    parse(text, &field.path, field.node.mark, report)
}

/// One text, or a list of them.
pub(super) fn read_list(field: &Field<'_>, code: &str, report: &mut Report<'_>) -> Option<Vec<FunctionTemplate>> {
    let Value::List(items) = &field.node.value else {
        return Some(vec![read(field, code, report)?]);
    };
    let texts = field.texts(code, report)?;
    let templates = texts.iter().zip(items).enumerate();
    let templates = templates.map(|(index, (text, item))| {
        let path = format!("{}[{index}]", field.path);
        parse(text, &path, item.mark, report)
    });
    templates.collect::<Vec<_>>().into_iter().collect()
}

/// The text at `path`.
pub(super) fn parse(text: &str, path: &str, mark: Mark, report: &mut Report<'_>) -> Option<FunctionTemplate> {
    match FunctionTemplate::parse(text) {
        Ok(template) => Some(template),
        Err(fault) => {
            report.error("E150", mark, format!("template error in {path}: {fault}"));
            None
        }
    }
}
