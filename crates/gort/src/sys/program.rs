//! Where the program's own code is in memory.

use super::map::PAGE;
use std::ops::Range;

/// The parts of the program that are mapped at its start.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The first byte. Positions in the program are counted from here, whether it is
    /// position-independent or not.
    pub(crate) start: usize,
    /// From the first instruction to the last.
    pub(crate) code: Range<usize>,
}

/// Reads the program headers that the kernel passed at start. Without headers the result has no
/// code.
pub(crate) fn find() -> Program {
    // SAFETY: getauxval only returns numbers; the headers, if there are any, stay mapped as long as
    // the process lives.
    let headers = unsafe {
        let (at, n) =
            (libc::getauxval(libc::AT_PHDR) as *const libc::Elf64_Phdr, libc::getauxval(libc::AT_PHNUM));
        if at.is_null() { &[] } else { std::slice::from_raw_parts(at, n as usize) }
    };
    let of = |kind: u32| headers.iter().filter(move |h| h.p_type == kind);
    let at = headers.as_ptr() as usize;
    // A program without a PT_PHDR header has its headers in the first page of its first part.
    let first = of(libc::PT_LOAD).map(|part| part.p_vaddr as usize).min().unwrap_or(0);
    let first_page = (at & !(PAGE - 1)).wrapping_sub(first & !(PAGE - 1));
    let loaded_at = of(libc::PT_PHDR).next().map_or(first_page, |own| at.wrapping_sub(own.p_vaddr as usize));
    let place = |h: &libc::Elf64_Phdr| {
        let begin = loaded_at.wrapping_add(h.p_vaddr as usize);
        begin..begin.wrapping_add(h.p_memsz as usize)
    };
    let parts = of(libc::PT_LOAD).map(place);
    let code = of(libc::PT_LOAD).filter(|h| h.p_flags & libc::PF_X != 0).map(place);
    Program {
        start: parts.map(|part| part.start).min().unwrap_or(0),
        code: code.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SOMETHING: u8 = 1;

    #[test]
    fn code_is_told_from_data_and_heap() {
        let program = find();
        assert!(program.code.contains(&(find as *const () as usize)));
        assert!(!program.code.contains(&(&raw const SOMETHING).addr()));
        assert!(!program.code.contains(&(&raw const *Box::new(1)).addr()));
        assert!((&raw const SOMETHING).addr() > program.start && program.code.start >= program.start);
    }
}
