//! Answers browsers over HTTP, without end.

use super::site::Site;
use crate::io::session::interrupted;
use duet::{Error, Result};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tiny_http::{HTTPVersion, Header, Method, Request, Response};

/// Requests that are answered at once: a browser that reads slowly keeps none of the others waiting.
const WORKERS: usize = 4;
/// How often a worker looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// A server that listens.
pub struct Server {
    server: tiny_http::Server,
    address: SocketAddr,
}

fn header(name: &str, value: &str) -> Option<Header> {
    Header::from_bytes(name, value).ok()
}

/// Whether an address names this machine itself, whatever its port.
fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl Server {
    /// Listens; port 0 is any that is free.
    ///
    /// # Errors
    /// [`Error::Config`] for a port that is taken or not to be had.
    pub fn new(host: IpAddr, port: u16) -> Result<Server> {
        let refused = |error: &dyn std::fmt::Display| {
            let detail =
                format!("{port} of {host} cannot be listened on: {error}; --port 0 takes any that is free");
            Error::config("port", detail)
        };
        let server = tiny_http::Server::http(SocketAddr::new(host, port)).map_err(|error| refused(&error))?;
        let address = server.server_addr().to_ip().ok_or_else(|| refused(&"it has no address"))?;
        Ok(Server { server, address })
    }

    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until Ctrl-C.
    pub fn run(&self, site: &Site) {
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| {
                    while !interrupted() {
                        // A connection that breaks is no concern of the others.
                        if let Ok(Some(request)) = self.server.recv_timeout(LOOK) {
                            self.answer(request, site);
                        }
                    }
                });
            }
        });
    }

    fn answer(&self, request: Request, site: &Site) {
        let host = request.headers().iter().find(|header| header.field.equiv("Host"));
        // A name that leads here from elsewhere is some other page's try to read what is served to this machine alone.
        let stranger = host.is_some_and(|host| !names_this_machine(host.value.as_str()));
        let text = |code: u16, words: &str| Response::from_string(words).with_status_code(code).boxed();
        let mut response = if self.address.ip().is_loopback() && stranger {
            text(403, "this page is served to its own machine: use localhost")
        } else if !matches!(request.method(), Method::Get | Method::Head) {
            text(405, "only GET and HEAD")
        } else {
            match site.get(request.url()) {
                Some(found) => {
                    let kind = header("Content-Type", found.kind);
                    // Of a known length, so that browsers tell how far they are.
                    let response = Response::from_data(found.bytes.into_owned());
                    let mut response = response.with_chunked_threshold(usize::MAX);
                    kind.into_iter().for_each(|kind| response.add_header(kind));
                    response.boxed()
                }
                None => text(404, "there is no such file"),
            }
        };
        // The next model at the same address is another one.
        for (name, value) in [("Cache-Control", "no-cache"), ("X-Content-Type-Options", "nosniff")] {
            if let Some(header) = header(name, value) {
                response.add_header(header);
            }
        }
        // As HTTP/1.0, after which browsers close the connection: the server's pool may leave a new connection waiting for one of
        // its threads, each of which stays with a connection for as long as that is open.
        let (head, asked) = (*request.method() == Method::Head, request.headers().to_vec());
        let mut writer = request.into_writer();
        let sent = response.raw_print(&mut writer, HTTPVersion(1, 0), &asked, head, None);
        // Whoever went away does not miss it.
        let _ = sent.and_then(|()| writer.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::names_this_machine;

    #[test]
    fn only_this_machine_s_names_are_its_own() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:1", "127.9.9.9", "[::1]:80", "LOCALHOST"] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in [
            "example.org",
            "localhost.example.org:80",
            "192.168.0.1:80",
            "[fe80::1]:80",
            "",
            "[",
            "127.0.0.1.nip.io",
        ] {
            assert!(!names_this_machine(host), "{host}");
        }
    }
}
