//! Clocks and the kinds of rejection.

/// The watermark of an input that has not said anything yet.
pub const WATERMARK_START: i64 = i64::MIN;

/// The watermark of an input that has ended: it closes every window.
pub const WATERMARK_END: i64 = i64::MAX;

/// Which clock a timer follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TimeDomain {
    /// The watermark.
    EventTime = 0,
    /// The wall clock of the host.
    ProcessingTime = 1,
}

/// Why a record is rejected, which decides the channel that it goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RejectionKind {
    /// The bytes can't be read as what they should be: dead letter queue.
    Malformed = 0,
    /// Readable, but against a business rule: invalid message channel.
    Invalid = 1,
    /// Its window is closed: late output.
    Late = 2,
    /// Older than what is still of use: expired output.
    Expired = 3,
}

impl RejectionKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Malformed, Self::Invalid, Self::Late, Self::Expired];

    /// The kind's name, as pipeline files and headers write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Late => "late",
            Self::Expired => "expired",
        }
    }
}
