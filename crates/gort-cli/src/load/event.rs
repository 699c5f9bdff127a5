//! The events of the load. Each carries its number and its intended time.

/// The name of the events.
pub(crate) const EVENT: &str = "load";

/// The data of an event: its number on its channel, its intended time, and padding up to `payload`
/// bytes.
pub(crate) fn make_data(number: u64, intended_ns: u64, payload: usize) -> String {
    let mut data = format!("{number} {intended_ns} ");
    let missing = payload.saturating_sub(data.len());
    data.extend(std::iter::repeat_n('x', missing));
    data
}

pub(crate) fn parse_data(data: &str) -> Option<(u64, u64)> {
    let mut parts = data.split(' ');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_carries_number_and_time_at_any_size() {
        for payload in [0, 10, 64, 10_000] {
            let data = make_data(u64::MAX, 12, payload);
            assert_eq!(parse_data(&data), Some((u64::MAX, 12)));
            assert!(data.len() >= payload);
        }
        assert_eq!(make_data(1, 2, 64).len(), 64);
        assert_eq!(parse_data("1"), None);
        assert_eq!(parse_data("x 1"), None);
    }
}
