//! The server that answers questions about a run: `/metrics`, `/status`, `/healthz`.
//!
//! Invariant: it has a thread of its own and shares nothing with workers but [`Figures`].

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::sync::oneshot;

use super::{Figures, metrics};

/// What the text of the metrics is.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the root answers.
const INDEX: &str = "wasmill\n\
    /metrics  figures for Prometheus\n\
    /status   how the run stands, as JSON; `wasmill status --admin HOST:PORT` shows it as tables\n\
    /healthz  whether the process answers\n";

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address can't be listened on.
    #[error(
        "the admin address {address} can't be listened on: {source}; write another one in engine.admin \
         or --admin, with port 0 for any that is free"
    )]
    Bind {
        /// The address as it was given.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server can't be started.
    #[error("the admin server can't be started: {0}")]
    Start(std::io::Error),
}

/// A server that answers until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `address`, `host:port`; port 0 takes one that is free. Whoever can connect can read
    /// names and figures of the pipeline, no records.
    ///
    /// # Errors
    /// [`Error::Bind`], and [`Error::Start`] when there is no thread to be had.
    pub fn start(address: &str, figures: Arc<Figures>) -> Result<Self, Error> {
        let bind = |source| Error::Bind { address: address.to_owned(), source };
        let listener = TcpListener::bind(address).map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let bound = listener.local_addr().map_err(bind)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.map_err(Error::Start)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let work = move || {
            runtime.spawn(serve(listener, figures));
            // An error is that nobody holds the other end any more: the same.
            let _ = runtime.block_on(stopped);
        };
        let thread = std::thread::Builder::new().name("wasmill-admin".into()).spawn(work);
        let thread = Some(thread.map_err(Error::Start)?);
        Ok(Self { address: bound, stop: Some(stop), thread })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended by itself if nobody listens to this.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, figures: Arc<Figures>) {
    let served = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => axum::serve(listener, router(figures)).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, "the admin server has ended");
    }
}

fn router(figures: Arc<Figures>) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(figures)
}

async fn metrics(State(figures): State<Arc<Figures>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPEN_METRICS)], metrics::text(figures.status()))
}

async fn status(State(figures): State<Arc<Figures>>) -> impl IntoResponse {
    let status = serde_json::to_string(&figures.status()).expect("a status is plain data");
    ([(CONTENT_TYPE, "application/json")], status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_named_in_the_error() {
        let first = Server::start("127.0.0.1:0", Arc::default()).unwrap();
        let address = first.address().to_string();
        let error = Server::start(&address, Arc::default()).unwrap_err().to_string();
        assert!(error.contains(&address) && error.contains("engine.admin"), "{error}");
        drop(first);
        drop(Server::start(&address, Arc::default()).unwrap());
    }

    #[test]
    fn each_path_answers_with_its_own_kind_of_text() {
        let figures = Arc::new(Figures::default());
        figures.begin("weblog", None, Arc::default());
        let server = Server::start("127.0.0.1:0", figures).unwrap();
        let ask = |path: &str| {
            let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
            let asked = agent.get(format!("http://{}{path}", server.address()));
            let mut answer = asked.call().unwrap();
            let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
            (kind, answer.body_mut().read_to_string().unwrap())
        };
        assert_eq!(ask("/healthz").1, "ok\n");
        let (kind, status) = ask("/status");
        assert_eq!(kind, "application/json");
        let status: super::super::Status = serde_json::from_str(&status).unwrap();
        assert_eq!(status.pipeline, "weblog");
        let (kind, text) = ask("/metrics");
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
