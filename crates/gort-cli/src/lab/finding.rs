//! The finding of an experiment: figures, and whether the claim held.

use crate::out;

/// One number of an experiment.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
}

/// The result of an experiment.
#[derive(Debug, Default)]
pub(crate) struct Finding {
    pub(crate) held: bool,
    pub(crate) figures: Vec<Figure>,
    /// Why the claim could not be tested here, or something that a reader should know.
    pub(crate) note: Option<String>,
}

impl Finding {
    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &str) {
        self.figures.push(Figure { name: name.into(), value, unit: unit.into() });
    }
}

/// The number with three significant digits, or as a whole number.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || value.fract() == 0.0 => out::count(value.round().max(0.0) as u64),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// How many threads the kernel counts in this process.
pub(crate) fn os_threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// The median and the 99th percentile of `values`.
pub(crate) fn p50_p99(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values.get(((values.len() as f64 * share) as usize).min(values.len().max(1) - 1));
    (at(0.5).copied().unwrap_or(f64::NAN), at(0.99).copied().unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(
            (number(0.5), number(12.34), number(1234.5), number(3.0)),
            ("0.50".into(), "12.3".into(), "1 235".into(), "3".into())
        );
        assert_eq!(p50_p99(&mut [3.0, 1.0, 2.0]), (2.0, 3.0));
        assert!(p50_p99(&mut []).0.is_nan());
    }
}
