//! What the load has measured, while it runs and at its end.

use crate::out;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// The result of a load.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    pub(crate) connections: usize,
    pub(crate) channels: usize,
    pub(crate) connect_ms: u64,
    pub(crate) published: u64,
    /// Events that were not sent, because the hub was too far behind.
    pub(crate) unsent: u64,
    pub(crate) expected: u64,
    pub(crate) delivered: u64,
    pub(crate) missing: u64,
    pub(crate) out_of_order: u64,
    pub(crate) lost_connections: u64,
    /// Why the first connection was lost.
    pub(crate) lost_reason: Option<String>,
    pub(crate) seconds: f64,
    pub(crate) delivered_per_s: f64,
    pub(crate) latency_ns: Latency,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    #[serde(rename = "p99.9")]
    pub(crate) p999: u64,
    pub(crate) max: u64,
}

impl Latency {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Latency {
        Latency {
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

impl Report {
    /// What went wrong, if anything did.
    pub(crate) fn failure(&self) -> Option<String> {
        let mut wrong = Vec::new();
        if self.missing > 0 {
            wrong.push(format!("{} of {} messages did not arrive", self.missing, self.expected));
        }
        if self.delivered > self.expected {
            wrong.push(format!("{} messages arrived twice", self.delivered - self.expected));
        }
        if self.out_of_order > 0 {
            wrong.push(format!("{} messages were out of order", self.out_of_order));
        }
        if self.lost_connections > 0 {
            let why = self.lost_reason.as_deref().unwrap_or("for no known reason");
            wrong.push(format!("{} connections were lost ({why})", self.lost_connections));
        }
        if self.unsent > 0 {
            wrong.push(format!("{} events could not be sent in time", self.unsent));
        }
        (!wrong.is_empty()).then(|| wrong.join("; "))
    }
}

/// The progress of a load.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Progress {
    Connecting {
        connected: usize,
    },
    /// All connections are open, and nothing is published yet.
    Connected,
    Running(Live),
}

/// The state of a running load, with the rate and the latency of the last quarter of a second.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Live {
    pub(crate) elapsed: Duration,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) delivered_per_s: f64,
    pub(crate) latency: Latency,
}

pub(crate) fn summary(report: &Report) -> String {
    let latency = &report.latency_ns;
    format!(
        "connections  {} on {} channels, opened in {:.1} s\n\
         published    {} events\n\
         delivered    {} of {} messages, {} a second\n\
         latency      p50 {}   p99 {}   p99.9 {}   max {}   (from the intended time of sending)",
        out::count(report.connections as u64),
        out::count(report.channels as u64),
        report.connect_ms as f64 / 1000.0,
        out::count(report.published),
        out::count(report.delivered),
        out::count(report.expected),
        out::count(report.delivered_per_s as u64),
        out::time(latency.p50),
        out::time(latency.p99),
        out::time(latency.p999),
        out::time(latency.max),
    )
}
