//! What the kernel reports about another process.

use std::io;
use std::time::Duration;

/// The CPU time that process `pid` has used so far, in nanoseconds. The kernel counts in hundredths
/// of a second.
pub(crate) fn cpu_ns(pid: u32) -> io::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may contain any character. After it, utime and stime are the 12th
    // and 13th fields.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Ok(ticks as f64 * 1e9 / rustix::param::clock_ticks_per_second() as f64)
}

/// Touches this much memory (8 GB at most) and frees it, so that a virtual machine has it from its
/// host before the run. Otherwise the first peer that runs would pay for that.
pub(crate) fn warm_memory(bytes: usize) {
    const PAGE: usize = 4096;
    let mut memory = vec![0u8; bytes.min(8 << 30)];
    memory.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
    std::hint::black_box(&memory);
}

/// The memory of `pid` in bytes: resident pages and page tables.
pub(crate) fn memory_bytes(pid: u32) -> io::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok((field(&status, "VmRSS:") + field(&status, "VmPTE:")) as f64 * 1024.0)
}

/// How often the threads of `pid` wake up during `time`.
pub(crate) fn wakes(pid: u32, time: Duration) -> io::Result<f64> {
    let switches = || -> io::Result<u64> {
        let mut sum = 0;
        for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            let status = std::fs::read_to_string(thread?.path().join("status"))?;
            sum += field(&status, "voluntary_ctxt_switches:");
        }
        Ok(sum)
    };
    let before = switches()?;
    std::thread::sleep(time);
    // The count of a thread that ended is gone.
    Ok(switches()?.saturating_sub(before) as f64)
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}
