//! The way from names to addresses.
//!
//! std's `ToSocketAddrs` asks the resolver of the system. That may take seconds, so it runs in
//! `blocking`. At the limit of blocking calls, an address that needs no resolver should not wait
//! behind those that do. Such addresses are recognised: by their type, and texts by their content.
//!
//! # Rejected
//!
//! A trait of gort's with an answer for each type: code that is generic over std's trait would not
//! fit.

use std::any::TypeId;
use std::io;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};

/// Returns the addresses behind `addr`. A look-up blocks the thread of the goroutine, but not its
/// P.
pub(super) fn resolve<A: ToSocketAddrs>(addr: &A) -> io::Result<A::Iter> {
    if is_literal(addr) { addr.to_socket_addrs() } else { crate::sched::blocking(|| addr.to_socket_addrs()) }
}

/// Runs `f` on one address after the other until it succeeds. Otherwise returns the last error.
pub(super) fn each_addr<A: ToSocketAddrs, T>(
    addr: A,
    mut f: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = None;
    for addr in resolve(&addr)? {
        match f(addr) {
            Ok(done) => return Ok(done),
            Err(e) => last = Some(e),
        }
    }
    Err(last.unwrap_or_else(no_address))
}

pub(super) fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any addresses")
}

/// Whether it is certain that `addr` needs no resolver.
fn is_literal<A>(addr: &A) -> bool {
    macro_rules! is_one_of {
        ($($ty:ty),*) => { $(same_type::<A, $ty>() || same_type::<A, &$ty>())||* };
    }
    is_one_of!(SocketAddr, SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16))
        || same_type::<A, &[SocketAddr]>()
        || cast::<A, &str, _>(addr, |s| is_addr(s)).unwrap_or(false)
        || cast::<A, String, _>(addr, |s| is_addr(s)).unwrap_or(false)
        || cast::<A, &String, _>(addr, |s| is_addr(s)).unwrap_or(false)
        || cast::<A, (&str, u16), _>(addr, |s| is_ip(s.0)).unwrap_or(false)
        || cast::<A, (String, u16), _>(addr, |s| is_ip(&s.0)).unwrap_or(false)
}

fn is_addr(text: &str) -> bool {
    text.parse::<SocketAddr>().is_ok()
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Calls `f` on `value` if that is a `B`, lifetimes aside. `f` takes any lifetime, so it cannot
/// keep what it sees.
fn cast<A, B, R>(value: &A, f: impl FnOnce(&B) -> R) -> Option<R> {
    // SAFETY: A and B are one type except for lifetimes, so the value is a valid B for as long as
    // it is borrowed. `f` does not keep anything of it (it returns a bool in all uses above).
    same_type::<A, B>().then(|| f(unsafe { &*std::ptr::from_ref(value).cast::<B>() }))
}

/// Whether A and B are one type, lifetimes aside.
fn same_type<A, B>() -> bool {
    type_id::<A>() == type_id::<B>()
}

/// Returns the id of `T`, with all lifetimes taken as `'static`.
fn type_id<T>() -> TypeId {
    trait Id {
        fn id(&self) -> TypeId
        where
            Self: 'static;
    }
    impl<T> Id for PhantomData<T> {
        fn id(&self) -> TypeId
        where
            Self: 'static,
        {
            TypeId::of::<T>()
        }
    }
    let of_t: &dyn Id = &PhantomData::<T>;
    // SAFETY: only the lifetime bound of the trait object changes, and lifetimes do not exist when
    // `id` runs. It reads nothing through the reference.
    let of_t: &(dyn Id + 'static) = unsafe { std::mem::transmute(of_t) };
    of_t.id()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Addresses that need no resolver are recognised, and others are not.
    #[test]
    fn literals_are_recognised() {
        let addr: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let (text, host) = ("[::1]:80".to_string(), "10.0.0.1".to_string());
        assert!(is_literal(&addr));
        assert!(is_literal(&&addr));
        assert!(is_literal(&&[addr][..]));
        assert!(is_literal(&text));
        assert!(is_literal(&&text));
        assert!(is_literal(&text.as_str()));
        assert!(is_literal(&(host.as_str(), 1u16)));
        assert!(is_literal(&(host.clone(), 1u16)));
        assert!(is_literal(&(Ipv4Addr::LOCALHOST, 1u16)));
        assert!(!is_literal(&"localhost:80"));
        assert!(!is_literal(&("localhost", 80u16)));
        assert!(!is_literal(&"localhost:80".to_string()));
        assert!(!is_literal(&"127.0.0.1"));
        assert!(!is_literal(&7));
    }
}
