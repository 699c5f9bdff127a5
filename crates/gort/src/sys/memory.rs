//! Looks at memory that may go away at any moment.

/// The words at `places`; `None` if one of them is not there (any more), or the kernel does not
/// read for us.
pub(crate) fn peek<const N: usize>(places: [usize; N]) -> Option<[u32; N]> {
    let mut words = [0u32; N];
    let to = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(&words) };
    let from = places.map(|at| libc::iovec { iov_base: at as *mut libc::c_void, iov_len: size_of::<u32>() });
    // SAFETY: the kernel writes to `words` alone, and reads what is there of the places.
    let read =
        unsafe { libc::process_vm_readv(libc::getpid(), &raw const to, 1, from.as_ptr(), N as u64, 0) };
    (read == size_of_val(&words) as isize).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_there_or_not() {
        let words = [3u32, 4];
        let at = |i: usize| std::ptr::from_ref(&words[i]).addr();
        assert_eq!(peek([at(0), at(1)]), Some([3, 4]));
        assert_eq!(peek([at(1)]), Some([4]));
        assert_eq!(peek([at(1), 8]), None);
        assert_eq!(peek([8]), None);
    }
}
