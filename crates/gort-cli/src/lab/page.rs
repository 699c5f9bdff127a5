//! The page with the lab's findings. It loads nothing from elsewhere.

use crate::lab::claims::{CLAIMS, Line};
use crate::lab::finding::number;
use std::fmt::Write;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}\
h1{font-size:1.6rem}section{border-top:1px solid #d0d7de;padding:1rem 0}h2{font-size:1.15rem;margin:0}\
.held{color:#1a7f37}.not{color:#cf222e}p{margin:.3rem 0 .8rem}table{border-collapse:collapse}\
td{padding:.1rem .8rem .1rem 0;vertical-align:middle}td.n{text-align:right;font-variant-numeric:tabular-nums}\
small{color:#57606a}@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}section{border-color:#30363d}\
small{color:#8d96a0}.held{color:#3fb950}.not{color:#f85149}}";

/// The page.
pub(super) fn write(lines: &[Line]) -> String {
    let held = lines.iter().filter(|line| line.held).count();
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>gort lab</title><style>{STYLE}</style><h1>gort lab: {held} of {} claims held</h1>\
         <p><small>Measured on this machine: {} CPUs, gort {}.</small></p>",
        lines.len(),
        gort::num_cpu(),
        env!("CARGO_PKG_VERSION"),
    );
    for line in lines {
        let Some(claim) = CLAIMS.iter().find(|claim| claim.name == line.claim) else { continue };
        let questions: Vec<String> = line.q.iter().map(|q| format!("Q{q}")).collect();
        let (class, verdict) = if line.held { ("held", "held") } else { ("not", "did not hold") };
        let _ = write!(
            page,
            "<section><h2>{} <small>{}</small> <span class=\"{class}\">{verdict}</span></h2><p>{}</p><table>",
            claim.name,
            questions.join(", "),
            escape(claim.says),
        );
        for (name, value, unit) in line.rows() {
            let _ = write!(
                page,
                "<tr><td>{}</td><td class=\"n\">{}</td><td>{}</td><td><small>{}</small></td></tr>",
                escape(name),
                number(value),
                bar(line, name, value, unit),
                escape(unit)
            );
        }
        page.push_str("</table>");
        if let Some(note) = &line.note {
            let _ = write!(page, "<p><small>{}</small></p>", escape(note));
        }
        page.push_str("</section>");
    }
    page.push_str("</html>\n");
    page
}

/// A bar whose length compares the figure with the others of its kind.
fn bar(line: &Line, name: &str, value: f64, _unit: &str) -> String {
    const WIDTH: f64 = 160.0;
    let kind = kind(name);
    let of_kind =
        || line.rows().filter(move |(other, ..)| self::kind(other) == kind).map(|(_, value, _)| value);
    let most = of_kind().fold(0.0, f64::max);
    if kind.is_empty() || of_kind().count() < 2 || most <= 0.0 {
        return String::new();
    }
    let length = (value / most * WIDTH).clamp(1.0, WIDTH);
    format!(
        "<svg width=\"{WIDTH}\" height=\"10\" role=\"img\"><rect width=\"{length:.0}\" height=\"10\" rx=\"2\" fill=\"#0969da\"/></svg>"
    )
}

/// The kind of a figure: the unit at the end of its name, or `count` for counts of threads and
/// CPUs.
fn kind(name: &str) -> &str {
    if name.starts_with("threads_w") || name.starts_with("cpu_use") {
        return "count";
    }
    ["_ns", "_us", "_ms", "_bytes"].into_iter().find(|end| name.ends_with(end)).unwrap_or("")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page() {
        let line: Line = serde_json::from_str(
            r#"{"claim":"spawn","q":[1],"held":true,"figures":{"goroutine_ns":200,"thread_ns":20000},"note":"a < b"}"#,
        )
        .expect("a line");
        let page = write(&[line]);
        assert!(
            page.contains("1 of 1 claims held") && page.contains("Q1") && page.contains("a &lt; b"),
            "{page}"
        );
        assert!(
            page.contains("width=\"160\" height=\"10\" rx") && page.contains("width=\"2\" height=\"10\" rx"),
            "{page}"
        );
        assert!(!page.contains("http"), "the page loads something");
    }
}
