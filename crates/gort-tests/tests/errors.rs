//! The errors of a group, and `anyhow`.

use gort::group::{Group, SharedError};
use std::io;

/// The error passes through `?` into an `anyhow::Error`, and keeps what it was; and out of one.
#[test]
fn errors_compose_with_anyhow() {
    fn into_anyhow() -> anyhow::Result<Vec<u32>> {
        let group = Group::new();
        group.go_any(|| Err::<u32, io::Error>(io::ErrorKind::NotFound.into()));
        Ok(group.results()?)
    }
    fn from_anyhow() -> anyhow::Result<()> {
        let group = Group::new();
        group.go_any(|| -> anyhow::Result<()> { anyhow::bail!("no luck") });
        group.go(|| Ok(anyhow::Ok(())?));
        group.wait()?;
        Ok(())
    }
    gort::run(|| {
        let error = into_anyhow().unwrap_err();
        let shared: &SharedError = error.downcast_ref().unwrap();
        assert_eq!(shared.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::NotFound);
        assert_eq!(from_anyhow().unwrap_err().to_string(), "no luck");
    });
}
