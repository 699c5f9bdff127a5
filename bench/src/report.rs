//! The results as a table (Markdown, also on a terminal) and as a chart.

use crate::versus::Row;
use std::fmt::Write;

/// The head of the table.
pub(crate) const HEAD: &str = "| workload | procs | gort | gort shared | Go | tokio | may | others | ratio | target | |\n\
                               | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | --- |";

/// One line of the table.
pub(crate) fn line(row: &Row) -> String {
    let cell = |peer: &str, value: Option<f64>| match (value, row.missing.get(peer)) {
        (Some(v), _) => format!("{}{}", number(v, &row.unit), spread(row.runs.get(peer))),
        (None, Some(_)) => "not run".to_string(),
        (None, None) => "–".to_string(),
    };
    let others: Vec<_> =
        row.others.iter().map(|(name, &v)| format!("{name} {}", number(v, &row.unit))).collect();
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        row.workload,
        row.procs,
        cell("gort", row.gort),
        cell("gort_shared", row.gort_shared),
        cell("go", row.go),
        cell("tokio", row.tokio),
        cell("may", row.may),
        if others.is_empty() { "–".to_string() } else { others.join(", ") },
        row.ratio.map_or("–".to_string(), |r| format!("{r:.2}")),
        row.target.map_or("–".to_string(), |t| format!("{t:.2} of {}", row.against)),
        match row.met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        }
    )
}

/// A value with its unit, in at most four digits.
fn number(v: f64, unit: &str) -> String {
    let (v, unit) = match unit {
        "ns" if v >= 1e6 => (v / 1e6, "ms"),
        "ns" if v >= 1e4 => (v / 1e3, "µs"),
        _ => (v, unit),
    };
    let digits = if v < 10.0 {
        2
    } else if v < 100.0 {
        1
    } else {
        0
    };
    format!("{v:.digits$} {unit}").trim_end().to_string()
}

/// Half the distance between the smallest and the largest, as a share of the median.
fn spread(runs: Option<&Vec<f64>>) -> String {
    let Some(runs) = runs.filter(|runs| runs.len() > 1) else { return String::new() };
    let (low, high) = runs.iter().fold((f64::MAX, f64::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    let median = crate::versus::median(runs);
    if median == 0.0 { String::new() } else { format!(" ±{:.0} %", (high - low) / 2.0 / median * 100.0) }
}

/// The complete table, with the machine above it and the meaning of the rows below.
pub(crate) fn markdown(machine: &str, runs: u32, rows: &[Row]) -> String {
    let mut text = format!("{machine}; medians of {runs} runs and how far they are apart\n\n{HEAD}\n");
    for row in rows {
        let _ = writeln!(text, "{}", line(row));
    }
    text += "\nLess is better in every row. `ratio` is gort's figure beside the best of those that `target` names (the best of Go and tokio where \
             nothing is aimed at).\n\n";
    let mut named: Vec<&str> = Vec::new();
    for row in rows {
        if !named.contains(&row.workload.as_str()) {
            named.push(&row.workload);
            let _ = writeln!(text, "- `{}`: {}", row.workload, row.what);
        }
    }
    let mut missing: Vec<_> = rows.iter().flat_map(|row| &row.missing).collect();
    missing.sort();
    missing.dedup();
    for (peer, why) in missing {
        let _ = writeln!(text, "- not run, {peer}: {why}");
    }
    text
}

/// A bar for each row that has a ratio, on a logarithmic scale. A bar to the left of the middle
/// line means that gort needs less than the best of the others.
pub(crate) fn svg(machine: &str, rows: &[Row]) -> String {
    const ROW: usize = 18;
    const TOP: usize = 58;
    const NAMES: f64 = 190.0;
    const WIDTH: f64 = 860.0;
    let x = |ratio: f64| {
        let share = (ratio.clamp(0.01, 10.0).log10() + 2.0) / 3.0;
        NAMES + share * (WIDTH - NAMES - 70.0)
    };
    let bars: Vec<_> = rows.iter().filter_map(|row| Some((row, row.ratio?))).collect();
    let height = TOP + bars.len() * ROW + 20;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"18\" font-size=\"13\" font-weight=\"bold\">What gort needs, as a share of what the best of the others needs (less is better)</text>\n\
         <text x=\"10\" y=\"33\" fill=\"#666\">{}</text>\n",
        escape(machine)
    );
    for tick in [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0] {
        let (at, bold) = (x(tick), if tick == 1.0 { "#333" } else { "#ddd" });
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{}\" y2=\"{}\" stroke=\"{bold}\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#666\">{tick}</text>",
            TOP - 4,
            height - 16,
            TOP - 8
        );
    }
    for (i, (row, ratio)) in bars.into_iter().enumerate() {
        let y = TOP + i * ROW;
        let (from, to) = (x(1.0).min(x(ratio)), x(1.0).max(x(ratio)));
        let color = match row.met {
            Some(true) => "#2a9d5c",
            Some(false) => "#d1495b",
            None => "#8d99ae",
        };
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"end\">{} ×{}</text><rect x=\"{from:.1}\" y=\"{}\" width=\"{:.1}\" height=\"{}\" fill=\"{color}\"/><text x=\"{:.1}\" y=\"{}\" fill=\"#333\">{ratio:.2}</text>",
            NAMES - 8.0,
            y + 12,
            escape(&row.workload),
            row.procs,
            y + 3,
            (to - from).max(1.0),
            ROW - 6,
            to + 4.0,
            y + 12
        );
        if let Some(target) = row.target {
            let at = x(target);
            let _ = writeln!(
                svg,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{}\" y2=\"{}\" stroke=\"#000\" stroke-width=\"2\"/>",
                y + 1,
                y + ROW - 1
            );
        }
    }
    let _ = writeln!(
        svg,
        "<text x=\"{NAMES}\" y=\"{}\" fill=\"#666\">green: target (black mark) met; red: missed; grey: nothing aimed at; ×1, ×2: processors</text>\n</svg>",
        height - 4
    );
    svg
}

/// Escapes text for an SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
