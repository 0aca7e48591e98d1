//! `clean`: access-log lines in, page views out.
//!
//! Reads the combined log format of Apache and Nginx and the access logs of AWS load balancers,
//! normalises the URL, and emits each request as JSON with its user as key and its time as event
//! time. Invariant: whatever bytes come in, what goes out is one line of valid JSON in the field
//! order that `README.md` gives, or a rejection that says why.

pub mod config;

mod balancer;
mod bots;
mod combined;
mod cursor;
mod event;
mod json;
mod line;
mod request;
mod rules;
mod scan;
mod time;
mod url;
mod user;

use wasmill_sdk::abi::Treatment;
use wasmill_sdk::config::error;
use wasmill_sdk::prelude::*;

use config::{Config, Format, User};

/// The output of page views.
const OUT: usize = 0;
/// The output of requests by bots.
const BOTS: usize = 1;
/// The output of requests for static assets.
const ASSETS: usize = 2;

/// The operator.
#[derive(Debug)]
pub struct Clean {
    format: Format,
    user: User,
    urls: url::Normalizer,
    rules: rules::Rules,
    bots: bots::Bots,
    assets: Vec<String>,
    host: bool,
    types: event::Types,
}

impl Stateless for Clean {
    type Config = Config;

    fn describe() -> Description {
        let output = |name: &str, summary: &str| OutputPort {
            name: name.into(),
            summary: summary.into(),
            key: Treatment::Assigned,
            event_time: Treatment::Assigned,
        };
        Description {
            name: "clean".into(),
            ports: Ports {
                inputs: vec![InputPort { name: "in".into(), summary: "Access-log lines.".into() }],
                outputs: vec![
                    output("out", "Page views, keyed by user, at the time of the request."),
                    output("bots", "The same for requests by bots; may be left unconnected."),
                    output(
                        "assets",
                        "The same for requests whose extension is in `drop-extensions`; may be \
                         left unconnected.",
                    ),
                ],
            },
            config_schema: include_str!("../schema.json").into(),
            ..Description::default()
        }
    }

    fn new(config: Config, _: &Setup) -> Result<Self, ConfigError> {
        if matches!(config.user, User::RemoteUser)
            && matches!(config.format, Format::Elb | Format::Alb)
        {
            return Err(error(
                "user",
                "load balancers log no remote user; use ip, ip+agent or field:PARAMETER",
            ));
        }
        Ok(Self {
            format: config.format,
            rules: rules::Rules::new(&config)?,
            bots: bots::Bots::new(&config.bots)?,
            assets: url::extensions(&config.drop_extensions)?,
            types: event::Types::new(&config.types)?,
            urls: url::Normalizer::new(&config)?,
            host: config.host,
            user: config.user,
        })
    }

    fn process(&self, record: &Record<'_>, out: &mut Emitter<'_>) -> Result<(), Rejection> {
        let line = line::read(self.format, record.bytes()?)?;
        let request = request::Request::split(&line.request.bytes)?;
        self.rules.check(&line, &request, record.now())?;
        let target = self.urls.split(request.method, request.target);
        let user = user::of(&self.user, &line, target.query_raw);
        let agent = line.agent.as_ref();
        let output = if agent.is_some_and(|agent| self.bots.sent(&agent.bytes)) {
            BOTS
        } else if url::has_extension(&target.path, &self.assets) {
            ASSETS
        } else {
            OUT
        };
        let event = event::Event {
            line: &line,
            user: user.as_bytes(),
            kind: self.types.of(request.method, &target.path),
            method: request.method,
            target: &target,
            host: self.host,
            lower_host: self.urls.lower_host,
        };
        out.to(output)
            .key(user.as_bytes())
            .timestamp(line.timestamp)
            .write(|json| event.write(json));
        Ok(())
    }
}

wasmill_sdk::export!(stateless Clean);
