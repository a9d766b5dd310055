//! What the kernel of this machine has to say: how much Envoy may take of it, and whether its ports are free.

use std::ops::RangeInclusive;
use std::path::Path;

/// Of the machine's memory; the rest is the kernel's, which keeps the sockets' buffers, and the daemon's.
const HEAP_PERCENT: u64 = 60;
/// Of Envoy's heap for each connection, so that it runs out of connections before it runs out of memory: one that is held takes
/// up to 59 KB (`make bench-proxy`).
const PER_CONNECTION: u64 = 64 * 1024;
const MOST_CONNECTIONS: u64 = 100_000;
/// A machine that does not say its memory is taken for the smallest that is usual.
const UNKNOWN: u64 = 1 << 30;

/// What Envoy may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Bytes.
    pub heap: u64,
    /// Client connections at once.
    pub connections: u64,
}

impl Size {
    /// On a machine of this memory, in bytes.
    pub fn of(memory: u64) -> Self {
        let heap = memory / 100 * HEAP_PERCENT;
        Size {
            heap,
            connections: (heap / PER_CONNECTION).min(MOST_CONNECTIONS),
        }
    }

    /// On this one. Asked of the kernel directly: the service does not see `/proc/meminfo`.
    pub fn here() -> Self {
        let memory = nix::sys::sysinfo::sysinfo().map(|info| info.ram_total());
        Size::of(memory.unwrap_or(UNKNOWN))
    }
}

/// Why a port of the range may be taken by the time a rule gets it: the kernel gives those of `dynamic` to outgoing connections,
/// except what is `reserved`. Both as the kernel says them under `/proc/sys/net/ipv4` (Linux kernel, "IP Sysctl",
/// `ip_local_port_range` and `ip_local_reserved_ports`). None when there is nothing to say or they cannot be read.
pub fn overlap(range: &RangeInclusive<u16>, dynamic: &str, reserved: &str) -> Option<String> {
    let mut ends = dynamic.split_whitespace().map(str::parse::<u16>);
    let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else {
        return None;
    };
    let reserved: Vec<RangeInclusive<u16>> = reserved.trim().split(',').filter_map(ports).collect();
    let (from, to) = (first.max(*range.start()), last.min(*range.end()));
    let is_free = |port: u16| reserved.iter().any(|ports| ports.contains(&port));
    if (from..=to).all(is_free) {
        return None;
    }
    Some(format!(
        "portRange {}-{}: the kernel gives the ports {from}-{to} to outgoing connections too, so that a rule may find its port taken; \
         reserve them: sysctl -w net.ipv4.ip_local_reserved_ports={from}-{to}",
        range.start(),
        range.end()
    ))
}

fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// Where the kernel says what [`overlap`] takes.
pub const SETTINGS: &str = "/proc/sys/net/ipv4";

/// [`overlap`] on the machine that says its settings in this folder. The service does not see [`SETTINGS`].
pub fn overlap_by(settings: &Path, range: &RangeInclusive<u16>) -> Option<String> {
    let say = |name: &str| std::fs::read_to_string(settings.join(name)).unwrap_or_default();
    overlap(range, &say("ip_local_port_range"), &say("ip_local_reserved_ports"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red with a heap of 2 GiB on every machine.
    #[test]
    fn envoy_fits_on_its_machine() {
        let gib = 1 << 30;
        let small = Size::of(2 * gib);
        assert!(small.heap < 2 * gib * 61 / 100 && small.heap > gib, "{small:?}");
        assert_eq!(small.connections, small.heap / PER_CONNECTION);
        assert_eq!(Size::of(64 * gib).connections, MOST_CONNECTIONS);
        let here = Size::here();
        assert!(here.heap > 0 && here.connections <= MOST_CONNECTIONS, "{here:?}");
    }

    /// Red when what is reserved was not looked at, and when only whole ranges were.
    #[test]
    fn ports_that_the_kernel_gives_away_are_told_unless_they_are_reserved() {
        let usual = "32768\t60999\n";
        let said = overlap(&(49152..=65535), usual, "\n").unwrap();
        assert!(said.contains("ip_local_reserved_ports=49152-60999"), "{said}");
        for (range, dynamic, reserved, told) in [
            (49152..=49251, usual, "49152-49251", false),
            (49152..=49251, usual, "8093,49152-49200,49201-50000\n", false),
            (49152..=49251, usual, "49152-49250", true),
            (49152..=49251, usual, "49152", true),
            (20000..=20100, usual, "", false),
            (61000..=65535, usual, "", false),
            (49152..=65535, "", "", false),
        ] {
            assert_eq!(
                overlap(&range, dynamic, reserved).is_some(),
                told,
                "{range:?} {reserved:?}"
            );
        }
    }
}
