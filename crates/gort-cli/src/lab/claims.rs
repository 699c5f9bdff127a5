//! The claims, each with the experiment that measures it.

use crate::lab::finding::Finding;
use crate::lab::{costs, procs, threads};
use crate::out::Failure;
use serde::{Deserialize, Serialize};

/// A claim, and the experiment for it.
pub(crate) struct Claim {
    pub(crate) name: &'static str,
    /// The numbers of the questions that it answers.
    pub(crate) questions: &'static [u32],
    pub(crate) says: &'static str,
    pub(crate) run: fn() -> Result<Finding, Failure>,
}

/// All claims, in the order of the page.
pub(crate) const CLAIMS: &[Claim] = &[
    Claim {
        name: "spawn",
        questions: &[1],
        says: "Creating a goroutine is about 100 times cheaper than creating a thread.",
        run: costs::spawn,
    },
    Claim {
        name: "procs",
        questions: &[2, 6],
        says: "GOMAXPROCS bounds how many threads run goroutines. With 1 there is concurrency without \
            parallelism.",
        run: procs::procs,
    },
    Claim {
        name: "handoff",
        questions: &[3, 8],
        says: "A blocking call blocks its thread and no other goroutine, because its P is handed off. \
            A read from the network holds no thread.",
        run: threads::handoff,
    },
    Claim {
        name: "storm",
        questions: &[9, 17],
        says: "Many blocking calls at once use a thread each. A limit bounds the threads, and idle ones \
            end.",
        run: threads::storm,
    },
    Claim {
        name: "preempt",
        questions: &[16, 25],
        says: "A loop without calls does not freeze the program, not even with GOMAXPROCS=1. \
            Goroutines woken by I/O run before CPU-bound ones.",
        run: procs::preempt,
    },
    Claim {
        name: "lock-os-thread",
        questions: &[4, 19, 22],
        says: "A locked goroutine stays on its thread, and no other runs there. Switching to it switches \
            threads, and the thread ends with a goroutine that ends locked.",
        run: threads::lock_os_thread,
    },
    Claim {
        name: "sleepers",
        questions: &[10],
        says: "A sleeping goroutine holds no thread.",
        run: costs::sleepers,
    },
    Claim {
        name: "million",
        questions: &[5],
        says: "A million goroutines at once are routine.",
        run: costs::million,
    },
    Claim {
        name: "idle-conns",
        questions: &[11],
        says: "Idle connections cost a goroutine each, and about one thread altogether.",
        run: costs::idle_conns,
    },
    Claim {
        name: "syscall",
        questions: &[24],
        says: "Entering and leaving a call that may block costs about 100 ns.",
        run: costs::syscall,
    },
    Claim {
        name: "procresize",
        questions: &[21, 29],
        says: "GOMAXPROCS can grow and shrink while the program runs, and no queued goroutine is lost.",
        run: procs::procresize,
    },
    Claim {
        name: "affine",
        questions: &[30],
        says: "In a pool of threads that keep state, each job runs on its worker's thread, and a panic \
            ends no worker.",
        run: threads::affine,
    },
    Claim {
        name: "cgroup",
        questions: &[7],
        says: "GOMAXPROCS follows the container's CPU quota.",
        run: procs::cgroup,
    },
];

/// One line of `--json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) claim: String,
    pub(crate) q: Vec<u32>,
    pub(crate) held: bool,
    pub(crate) figures: serde_json::Map<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub(crate) units: serde_json::Map<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
}

impl Line {
    pub(crate) fn of(claim: &Claim, finding: Finding) -> Line {
        let round = |v: f64| (v * 1000.0).round() / 1000.0;
        let mut line = Line {
            claim: claim.name.into(),
            q: claim.questions.to_vec(),
            held: finding.held,
            figures: serde_json::Map::new(),
            units: serde_json::Map::new(),
            note: finding.note,
        };
        for figure in finding.figures {
            line.units.insert(figure.name.clone(), figure.unit.into());
            line.figures.insert(figure.name, round(figure.value).into());
        }
        line
    }

    /// Name, value and unit of each figure.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&str, f64, &str)> {
        self.figures.iter().map(|(name, value)| {
            let unit = self.units.get(name).and_then(|unit| unit.as_str()).unwrap_or("");
            (name.as_str(), value.as_f64().unwrap_or(f64::NAN), unit)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_questions_are_there() {
        let mut names: Vec<_> = CLAIMS.iter().map(|claim| claim.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CLAIMS.len());
        assert!(CLAIMS.iter().all(|claim| !claim.questions.is_empty()));
    }
}
