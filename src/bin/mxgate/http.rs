//! Metrics and health over HTTP, for monitoring: `GET /metrics`, `GET /health`. Nothing else is there, and nothing can be
//! changed.
//!
//! There is no password: whoever reaches the port reads which lists there are and how they do. So it is on an address of
//! this host alone, or on a unix socket, unless the administrator says otherwise.

use crate::listen::{Address, Listener};
use crate::metrics::{Health, Metrics};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// Most connections at one time. Further ones wait in the queue of the listener.
const MAX_CONNECTIONS: usize = 16;
/// Time for the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Time for a connection. Prometheus asks again over the same one each 15 s or so, or opens another.
const CONNECTION_TIME: Duration = Duration::from_secs(120);
/// Longest head of a request, which no program reaches.
const MAX_HEAD: usize = 16 * 1024;
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The format of metrics, as monitoring knows it.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Starts to listen, on an address of this host alone unless `any`.
pub(crate) async fn bind(address: &Address, mode: u32, any: bool) -> Result<Listener, String> {
    let listener = Listener::bind(address, mode).await?;
    match listener.address() {
        Ok(Address::Inet { host, .. }) if !any && !host.parse().is_ok_and(|host: IpAddr| host.is_loopback()) => {
            let remedy = "choose an address of this host such as inet:127.0.0.1:9899, or say that they may with --metrics-any";
            Err(format!("cannot listen on {address}: other hosts could read metrics there; {remedy}"))
        }
        _ => Ok(listener),
    }
}

/// Accepts connections until the daemon has ended its sessions: while it does, it says so. No error ends it.
pub(crate) async fn accept(listener: Listener, metrics: Arc<Metrics>, mut ended: oneshot::Receiver<()>) {
    if let Ok(address) = listener.address() {
        log::info!("metrics and health at {address}");
    }
    let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = async { (Arc::clone(&free).acquire_owned().await, listener.accept().await) } => accepted,
            _ = &mut ended => break,
        };
        match accepted {
            (Ok(permit), Ok(socket)) => {
                let (is_unix, metrics) = (listener.is_unix(), Arc::clone(&metrics));
                tokio::spawn(async move {
                    if is_unix {
                        converse(UnixStream::from_std(socket.into()), metrics).await;
                    } else {
                        converse(TcpStream::from_std(socket.into()), metrics).await;
                    }
                    drop(permit);
                });
            }
            (_, Err(error)) => {
                log::debug!("metrics: cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
            // The semaphore is never closed.
            (Err(_), _) => break,
        }
    }
    listener.hide();
}

/// One connection. Who asks wrongly has an answer that says so; who does not ask is no news.
async fn converse(stream: io::Result<impl AsyncRead + AsyncWrite + Unpin>, metrics: Arc<Metrics>) {
    let Ok(stream) = stream.inspect_err(|error| log::debug!("metrics: cannot serve a connection: {error}")) else { return };
    let answer = service_fn(|request| respond(request, Arc::clone(&metrics)));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MAX_HEAD);
    let _ = timeout(CONNECTION_TIME, server.serve_connection(TokioIo::new(stream), answer)).await;
}

/// The response to a request.
async fn respond(request: Request<Incoming>, metrics: Arc<Metrics>) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "write GET\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    Ok(match request.uri().path() {
        // Beside the sessions: it may take a while.
        "/metrics" => match spawn_blocking(move || metrics.text()).await {
            Ok(text) => response(StatusCode::OK, OPENMETRICS, text),
            Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "see the log of the daemon\n".into()),
        },
        "/health" => match metrics.health() {
            Health::Well => response(StatusCode::OK, TEXT, "ok\n".into()),
            Health::Degraded(alarms) => response(StatusCode::OK, TEXT, alarms.iter().map(|alarm| format!("degraded: {alarm}\n")).collect()),
            Health::Stopping => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "stopping\n".into()),
        },
        _ => response(StatusCode::NOT_FOUND, TEXT, "there are /metrics and /health\n".into()),
    })
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
