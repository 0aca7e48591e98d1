//! Moves between the generated types and those of `wasmill-abi`. Nothing is copied on the way in:
//! parameters borrow.

use wasmill_abi as abi;
use wasmtime::Store;

use super::bindings::keyed::exports::wasmill::plugin::keyed as k;
use super::bindings::keyed::wasmill::plugin::types as kt;
use super::bindings::stateless::exports::wasmill::plugin::stateless as s;
use super::bindings::stateless::wasmill::plugin::types as st;
use super::host::Host;
use super::instance::Settings;

macro_rules! shared {
    ($module:ident, $t:ident) => {
        mod $module {
            use super::abi;
            use super::$t as t;

            pub(super) fn column(c: &abi::Column) -> t::ColumnParam<'_> {
                t::ColumnParam { ends: &c.ends, data: &c.data, validity: &c.validity }
            }

            pub(super) fn column_back(c: t::ColumnResult) -> abi::Column {
                abi::Column { ends: c.ends, data: c.data, validity: c.validity }
            }

            pub(super) fn headers(h: &abi::Headers) -> t::HeadersParam<'_> {
                t::HeadersParam {
                    ends: &h.ends,
                    names: column(&h.names),
                    values: column(&h.values),
                }
            }

            pub(super) fn headers_back(h: t::HeaderChanges) -> abi::HeaderChanges {
                abi::HeaderChanges {
                    dropped: h.dropped,
                    added: abi::Headers {
                        ends: h.added.ends,
                        names: column_back(h.added.names),
                        values: column_back(h.added.values),
                    },
                }
            }

            pub(super) fn rejections_back(r: t::Rejections) -> abi::Rejections {
                let kind = |k| match k {
                    t::RejectionKind::Malformed => abi::RejectionKind::Malformed,
                    t::RejectionKind::Invalid => abi::RejectionKind::Invalid,
                    t::RejectionKind::Late => abi::RejectionKind::Late,
                    t::RejectionKind::Expired => abi::RejectionKind::Expired,
                };
                abi::Rejections {
                    rows: r.rows,
                    kinds: r.kinds.into_iter().map(kind).collect(),
                    reasons: column_back(r.reasons),
                }
            }
        }
    };
}

shared!(stateless_types, st);
shared!(keyed_types, kt);

/// A column as a parameter of a keyed plugin.
pub(super) fn column(c: &abi::Column) -> kt::ColumnParam<'_> {
    keyed_types::column(c)
}

/// A column that a keyed plugin returned.
pub(super) fn column_back(c: kt::ColumnResult) -> abi::Column {
    keyed_types::column_back(c)
}
