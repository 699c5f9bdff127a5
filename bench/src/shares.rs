//! How parties that are always runnable share the CPU: mixtures on gort and on Go.
//!
//! A party's share is the work that it does in the mixture, divided by the work that it does alone
//! on one P. It is measured in Ps' worth of time. With `n` parties on `p` Ps the fair share of each
//! is `p / n`, at most one. A mixture's figure is the smallest ratio of a party's share to its fair
//! share.

use crate::programs::Programs;
use crate::workloads::Peer;
use std::collections::HashMap;
use std::error::Error;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const KINDS: [&str; 8] = ["hog", "yielder", "pair", "pair-buffered", "ring", "spawner", "mutex", "socket"];

/// How many of each party a mixture has.
const MIXTURES: [&[(&str, usize)]; 16] = [
    &[("hog", 2)],
    &[("hog", 1), ("yielder", 1)],
    &[("hog", 1), ("pair", 1)],
    &[("hog", 1), ("pair-buffered", 1)],
    &[("hog", 1), ("ring", 1)],
    &[("hog", 1), ("spawner", 1)],
    &[("hog", 1), ("mutex", 1)],
    &[("hog", 1), ("socket", 1)],
    &[("yielder", 1), ("pair-buffered", 1)],
    &[("pair-buffered", 1), ("spawner", 1)],
    &[("pair-buffered", 1), ("socket", 1)],
    &[("hog", 3), ("pair-buffered", 1)],
    &[("hog", 1), ("yielder", 1), ("pair-buffered", 1), ("ring", 1), ("spawner", 1), ("socket", 1)],
    &[("yielder", 8), ("hog", 1)],
    &[("hog", 16), ("pair", 1), ("yielder", 1)],
    &[("hog", 300), ("pair", 1), ("yielder", 1)],
];

const MILLIS: u64 = 1500;

/// Measures all mixtures and returns the table.
pub(crate) fn table(procs: &[u32]) -> Result<String> {
    let programs = Programs::build(false)?;
    let mut text =
        format!("{}\n\n| parties | Ps | gort | Go |\n| --- | ---: | ---: | ---: |\n", programs.machine());
    let mut alone = HashMap::new();
    for peer in [Peer::Gort, Peer::Go] {
        for kind in KINDS {
            alone.insert((peer.name(), kind), measure(&programs, peer, kind, 1)?.map(|done| done[0]));
        }
    }
    for &procs in procs {
        for mixture in MIXTURES {
            let parties: Vec<&str> =
                mixture.iter().flat_map(|&(kind, n)| std::iter::repeat_n(kind, n)).collect();
            let title = mixture.iter().map(|&(kind, n)| match n {
                1 => kind.to_string(),
                _ => format!("{n} {kind}s"),
            });
            text += &format!("| {} | {procs} |", title.collect::<Vec<_>>().join(", "));
            let fair = (f64::from(procs) / parties.len() as f64).min(1.0);
            for peer in [Peer::Gort, Peer::Go] {
                let least = measure(&programs, peer, &parties.join(","), procs)?.map(|done| {
                    let parts = done.iter().zip(&parties).map(|(done, &kind)| {
                        let alone = alone[&(peer.name(), kind)].unwrap_or(f64::INFINITY);
                        done / alone / fair
                    });
                    parts.fold(f64::INFINITY, f64::min)
                });
                text += &least.map_or(" – |".into(), |least| format!(" {least:.2} |"));
            }
            text += "\n";
            eprintln!("{}", text.lines().last().unwrap_or_default());
        }
    }
    Ok(text)
}

/// The work that each party does; `None` if the peer is missing.
fn measure(programs: &Programs, peer: Peer, parties: &str, procs: u32) -> Result<Option<Vec<f64>>> {
    let Some(mut command) = programs.child(peer, &format!("shares:{parties}"), MILLIS, procs) else {
        return Ok(None);
    };
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} with {parties}: {}: {why}", peer.name(), output.status).into());
    }
    Ok(Some(said.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?))
}
