//! The regression check: compares the ratios of a run with those of the baseline.

use crate::versus::Row;
use serde::Deserialize;
use std::error::Error;
use std::path::Path;

/// By how much a ratio may grow.
const TOLERANCE: f64 = 1.25;

/// The part of a row that is compared: all that `baseline.json` holds.
#[derive(Debug, Deserialize)]
pub(crate) struct Ratio {
    workload: String,
    procs: u32,
    ratio: Option<f64>,
}

impl From<Row> for Ratio {
    fn from(row: Row) -> Ratio {
        Ratio { workload: row.workload, procs: row.procs, ratio: row.ratio }
    }
}

/// Reads the ratios of a baseline, or of a result of `versus --json`.
pub(crate) fn read(path: &Path) -> Result<Vec<Ratio>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?)
}

/// One sentence for each ratio that is worse than `baseline` allows.
pub(crate) fn worse(now: &[Ratio], baseline: &[Ratio]) -> Vec<String> {
    let before = |row: &Ratio| baseline.iter().find(|b| b.workload == row.workload && b.procs == row.procs);
    now.iter()
        .filter_map(|row| {
            let (now, then) = (row.ratio?, before(row)?.ratio?);
            (now > then * TOLERANCE).then(|| {
                format!("{} on {} processors: ratio {now:.2}, was {then:.2}", row.workload, row.procs)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(workload: &str, procs: u32, ratio: Option<f64>) -> Ratio {
        Ratio { workload: workload.into(), procs, ratio }
    }

    /// Only a ratio that grew by more than a quarter is worse. Rows that one side lacks are not
    /// compared.
    #[test]
    fn a_quarter_is_tolerated() {
        let baseline = [row("a", 1, Some(0.4)), row("a", 2, Some(1.0)), row("b", 1, None)];
        let rows = [
            row("a", 1, Some(0.49)),
            row("a", 2, Some(1.26)),
            row("b", 1, Some(9.0)),
            row("c", 1, Some(9.0)),
        ];
        assert_eq!(worse(&rows, &baseline), ["a on 2 processors: ratio 1.26, was 1.00"]);
    }
}
