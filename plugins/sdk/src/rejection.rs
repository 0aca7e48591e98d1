//! Why a record is not processed.

use wasmill_abi::RejectionKind;

/// A record's rejection: the channel it goes to, and a sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Which channel.
    pub kind: RejectionKind,
    /// Why.
    pub reason: String,
}

impl Rejection {
    /// The bytes can't be read as what they should be: dead letter queue.
    pub fn malformed(reason: impl Into<String>) -> Self {
        Self { kind: RejectionKind::Malformed, reason: reason.into() }
    }

    /// Readable, but against a business rule: invalid message channel.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self { kind: RejectionKind::Invalid, reason: reason.into() }
    }

    /// Its window is closed: late output.
    pub fn late(reason: impl Into<String>) -> Self {
        Self { kind: RejectionKind::Late, reason: reason.into() }
    }

    /// Older than what is still of use: expired output.
    pub fn expired(reason: impl Into<String>) -> Self {
        Self { kind: RejectionKind::Expired, reason: reason.into() }
    }
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.reason)
    }
}

impl std::error::Error for Rejection {}

impl From<serde_json::Error> for Rejection {
    fn from(e: serde_json::Error) -> Self {
        Self::malformed(format!("not the JSON that was expected: {e}"))
    }
}

impl From<std::str::Utf8Error> for Rejection {
    fn from(e: std::str::Utf8Error) -> Self {
        Self::malformed(format!("not UTF-8: {e}"))
    }
}
