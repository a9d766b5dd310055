//! How a phase feels to the reader: headline, colour, icon.

use super::Phase;
use super::messages::Messages;

/// How it feels to the reader; decides headline, colour and icon. The script derives it from the phase in the same way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Asleep,
    Waking,
    Ready,
    Failed,
    Misconfigured,
}

impl Mood {
    pub(super) const ALL: [Mood; 5] = [
        Mood::Asleep,
        Mood::Waking,
        Mood::Ready,
        Mood::Failed,
        Mood::Misconfigured,
    ];

    pub(super) fn of(phase: Phase) -> Mood {
        match phase {
            Phase::Asleep => Mood::Asleep,
            Phase::Starting | Phase::Checking | Phase::Switching | Phase::Settling | Phase::Stopping => Mood::Waking,
            Phase::Awake => Mood::Ready,
            Phase::Failed => Mood::Failed,
            Phase::Misconfigured => Mood::Misconfigured,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Mood::Asleep => "asleep",
            Mood::Waking => "waking",
            Mood::Ready => "ready",
            Mood::Failed => "failed",
            Mood::Misconfigured => "misconfigured",
        }
    }

    pub(super) fn title(self, m: &'static Messages) -> &'static str {
        match self {
            Mood::Asleep => m.title_asleep,
            Mood::Waking => m.title_waking,
            Mood::Ready => m.title_ready,
            Mood::Failed => m.title_failed,
            Mood::Misconfigured => m.title_misconfigured,
        }
    }

    pub(super) fn headline(self, m: &'static Messages) -> &'static str {
        match self {
            Mood::Asleep => m.headline_asleep,
            Mood::Waking => m.headline_waking,
            Mood::Ready => m.headline_ready,
            Mood::Failed => m.headline_failed,
            Mood::Misconfigured => m.headline_misconfigured,
        }
    }

    /// Shape tells them apart, not colour alone: below the horizon, rising, a tick, an exclamation mark.
    pub(super) fn icon(self) -> &'static str {
        macro_rules! icon {
            ($ground:literal, $drawing:literal) => {
                concat!(
                    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'>",
                    "<rect width='32' height='32' rx='8' fill='%23",
                    $ground,
                    "'/>",
                    $drawing,
                    "</svg>"
                )
            };
        }
        match self {
            Mood::Asleep => icon!(
                "26262c",
                "<path d='M20 21a8 8 0 0 1-9-11 8 8 0 1 0 9 11z' transform='translate(1 -1)' fill='%23c9c5bd'/>"
            ),
            Mood::Waking => icon!(
                "26262c",
                "<path d='M8 21a8 8 0 0 1 16 0z' fill='%23f5b54a'/><path d='M5 24h22' stroke='%23fff' stroke-width='2' stroke-linecap='round'/>"
            ),
            Mood::Ready => icon!(
                "14743a",
                "<path d='m9 17 5 5 9-11' fill='none' stroke='%23fff' stroke-width='3.5' stroke-linecap='round' stroke-linejoin='round'/>"
            ),
            Mood::Failed | Mood::Misconfigured => icon!(
                "b3261e",
                "<path d='M16 8v10M16 24v.1' stroke='%23fff' stroke-width='4' stroke-linecap='round'/>"
            ),
        }
    }
}
