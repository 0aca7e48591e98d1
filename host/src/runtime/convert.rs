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

fn origins_parts(o: &abi::Origins) -> Vec<&str> {
    o.topics.iter().map(String::as_str).collect()
}

/// A batch for a stateless plugin, borrowed.
pub(super) struct StatelessParts<'a> {
    batch: &'a abi::StatelessBatch,
    topics: Vec<&'a str>,
}

impl<'a> StatelessParts<'a> {
    pub(super) fn new(batch: &'a abi::StatelessBatch) -> Self {
        Self { batch, topics: batch.origins.as_ref().map(origins_parts).unwrap_or_default() }
    }

    pub(super) fn borrow(&self) -> s::Batch<'_> {
        let b = self.batch;
        s::Batch {
            timestamps: &b.timestamps,
            watermarks: &b.watermarks,
            now: b.now,
            inputs: &b.inputs,
            keys: stateless_types::column(&b.keys),
            values: stateless_types::column(&b.values),
            headers: b.headers.as_ref().map(stateless_types::headers),
            origins: b.origins.as_ref().map(|o| st::Origins {
                topics: &self.topics,
                topic: &o.topic,
                partition: &o.partition,
                offset: &o.offset,
            }),
        }
    }
}

/// What a stateless plugin replied.
pub(super) fn stateless_reply(r: s::Reply) -> abi::StatelessReply {
    abi::StatelessReply {
        rows: r.rows,
        outputs: r.outputs,
        timestamps: r.timestamps,
        keys: r.keys.map(stateless_types::column_back),
        values: stateless_types::column_back(r.values),
        headers: r.headers.map(stateless_types::headers_back),
        rejections: stateless_types::rejections_back(r.rejections),
    }
}

fn domain(d: abi::TimeDomain) -> k::TimeDomain {
    match d {
        abi::TimeDomain::EventTime => k::TimeDomain::EventTime,
        abi::TimeDomain::ProcessingTime => k::TimeDomain::ProcessingTime,
    }
}

fn domain_back(d: k::TimeDomain) -> abi::TimeDomain {
    match d {
        k::TimeDomain::EventTime => abi::TimeDomain::EventTime,
        k::TimeDomain::ProcessingTime => abi::TimeDomain::ProcessingTime,
    }
}

/// A batch for a keyed plugin, borrowed.
pub(super) struct KeyedParts<'a> {
    batch: &'a abi::KeyedBatch,
    topics: Vec<&'a str>,
    domains: Vec<k::TimeDomain>,
}

impl<'a> KeyedParts<'a> {
    pub(super) fn new(batch: &'a abi::KeyedBatch) -> Self {
        Self {
            batch,
            topics: batch.origins.as_ref().map(origins_parts).unwrap_or_default(),
            domains: batch.due.domains.iter().map(|d| domain(*d)).collect(),
        }
    }

    pub(super) fn borrow(&self) -> k::Batch<'_> {
        let b = self.batch;
        k::Batch {
            timestamps: &b.timestamps,
            watermarks: &b.watermarks,
            end_watermark: b.end_watermark,
            now: b.now,
            inputs: &b.inputs,
            slots: &b.slots,
            values: column(&b.values),
            headers: b.headers.as_ref().map(keyed_types::headers),
            origins: b.origins.as_ref().map(|o| kt::Origins {
                topics: &self.topics,
                topic: &o.topic,
                partition: &o.partition,
                offset: &o.offset,
            }),
            keys: column(&b.keys),
            states: column(&b.states),
            due: k::TimersParam {
                slots: &b.due.slots,
                domains: &self.domains,
                tags: &b.due.tags,
                times: &b.due.times,
            },
        }
    }
}

/// What a keyed plugin replied.
pub(super) fn keyed_reply(r: k::Reply) -> abi::KeyedReply {
    let k::TimerChanges { set, cleared } = r.timers;
    abi::KeyedReply {
        rows: r.rows,
        clocks: r.clocks,
        outputs: r.outputs,
        timestamps: r.timestamps,
        keys: r.keys.map(column_back),
        values: column_back(r.values),
        headers: r.headers.map(keyed_types::headers_back),
        rejections: keyed_types::rejections_back(r.rejections),
        changed: r.changed,
        states: column_back(r.states),
        timers: abi::TimerChanges {
            set: abi::Timers {
                slots: set.slots,
                domains: set.domains.into_iter().map(domain_back).collect(),
                tags: set.tags,
                times: set.times,
            },
            cleared: abi::TimerNames {
                slots: cleared.slots,
                domains: cleared.domains.into_iter().map(domain_back).collect(),
                tags: cleared.tags,
            },
        },
    }
}

macro_rules! lifecycle {
    ($world:ident, $description:ident, $configure:ident, $module:ident) => {
        mod $module {
            use super::super::bindings::$world::exports::wasmill::plugin::lifecycle as l;
            use super::{Host, Settings, Store, abi};

            fn treatment(t: l::Treatment) -> abi::Treatment {
                match t {
                    l::Treatment::Kept => abi::Treatment::Kept,
                    l::Treatment::Assigned => abi::Treatment::Assigned,
                }
            }

            fn ports(p: l::Ports) -> abi::Ports {
                let input = |i: l::InputPort| abi::InputPort { name: i.name, summary: i.summary };
                let output = |o: l::OutputPort| abi::OutputPort {
                    name: o.name,
                    summary: o.summary,
                    key: treatment(o.key),
                    event_time: treatment(o.event_time),
                };
                abi::Ports {
                    inputs: p.inputs.into_iter().map(input).collect(),
                    outputs: p.outputs.into_iter().map(output).collect(),
                }
            }

            pub(in super::super) fn description(d: l::Description) -> abi::Description {
                abi::Description {
                    name: d.name,
                    version: d.version,
                    summary: d.summary,
                    ports: ports(d.ports),
                    config_schema: d.config_schema,
                    state_version: d.state_version,
                    reads_state_versions: d.reads_state_versions,
                    maps: d.maps,
                    wants_headers: d.wants_headers,
                    wants_origins: d.wants_origins,
                }
            }

            pub(in super::super) fn configure(
                guest: &l::Guest,
                store: &mut Store<Host>,
                settings: &Settings,
            ) -> wasmtime::Result<Result<abi::Ports, abi::ConfigError>> {
                let context = l::Context {
                    pipeline: &settings.context.pipeline,
                    stage: &settings.context.stage,
                };
                let resources: Vec<_> = settings
                    .resources
                    .iter()
                    .map(|r| l::ResourceFile {
                        name: &r.name,
                        file_name: &r.file_name,
                        data: &r.data,
                    })
                    .collect();
                let result = guest.call_configure(store, context, &settings.config, &resources)?;
                Ok(result
                    .map(ports)
                    .map_err(|e| abi::ConfigError { path: e.path, message: e.message }))
            }
        }

        pub(super) use $module::{configure as $configure, description as $description};
    };
}

lifecycle!(stateless, stateless_description, configure_stateless, stateless_lifecycle);
lifecycle!(keyed, keyed_description, configure_keyed, keyed_lifecycle);
