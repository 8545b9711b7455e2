//! A filter that does nothing, on the crate miltr-server: `miltr-nothing unix:PATH` or `miltr-nothing ADDRESS:PORT`.

use async_trait::async_trait;
use miltr_server::{Milter, Server};
use std::convert::Infallible;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::compat::TokioAsyncReadCompatExt;

struct Nothing;

#[async_trait]
impl Milter for Nothing {
    type Error = Infallible;

    async fn abort(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

async fn serve(stream: impl TokioAsyncReadCompatExt + tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send) {
    // What a client does wrong is no news here.
    let _ = Server::default_postfix(&mut Nothing).handle_connection(&mut stream.compat()).await;
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let address = std::env::args().nth(1).expect("where to listen");
    match address.strip_prefix("unix:") {
        Some(path) => {
            let listener = UnixListener::bind(path).expect("cannot listen");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        }
        None => {
            let listener = TcpListener::bind(address).await.expect("cannot listen");
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream));
            }
        }
    }
}
