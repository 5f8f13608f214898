//! Rows of a CSV file as spreadsheets read them (RFC 4180). A text that a spreadsheet would take for a formula gets an
//! apostrophe before it, since texts of tasks come from anyone.

use axum::http::{HeaderName, header};

/// The headers of a file of this name.
pub fn headers(name: &str) -> [(HeaderName, String); 2] {
    [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ]
}

/// Adds a row.
pub fn add_row(text: &mut String, cells: &[&str]) {
    for (n, cell) in cells.iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        add_cell(text, cell);
    }
    text.push_str("\r\n");
}

fn add_cell(text: &mut String, cell: &str) {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let quoted = cell.contains([',', '"', '\n', '\r']);
    if quoted {
        text.push('"');
    }
    if formula {
        text.push('\'');
    }
    if quoted {
        text.push_str(&cell.replace('"', "\"\""));
        text.push('"');
    } else {
        text.push_str(cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_formulas_are_text() {
        let mut text = String::new();
        add_row(&mut text, &["a", "b,\"c\"", "=1+1", "@x\ny", "-3", "空"]);
        assert_eq!(text, "a,\"b,\"\"c\"\"\",'=1+1,\"'@x\ny\",'-3,空\r\n");
    }
}
