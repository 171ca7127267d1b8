//! How the dashboard of an application is asked.
//!
//! Owns: the address, the token, what is trusted of an answer, and the words for all that can go
//! wrong on the way. Does not know: what is asked for.

use std::io;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Response, Uri, header};
use ureq::{Agent, Body, Error};

use super::ending::{Ending, Failed};

/// How many bytes an answer has at most.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// What is sent by whom has no token: that a change comes from no page of a browser is known by
/// its `Authorization`, whatever that says.
const NO_TOKEN: &str = "none";

/// Where a dashboard is, and how it is asked.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its address, as a person wrote it.
    pub at: String,
    pub token: Option<String>,
    /// For how long an answer is waited for.
    pub patience: Duration,
    /// The authorities to be trusted, as PEM, in the place of those of the web.
    #[cfg(feature = "tls")]
    pub authorities: Option<Vec<u8>>,
}

/// What the dashboard says of itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Board {
    pub callboard: String,
    pub title: Option<String>,
    pub schedulers: Vec<String>,
    pub access: String,
}

impl Board {
    /// Returns whether it calls itself production.
    pub fn is_production(&self) -> bool {
        let title = self.title.as_deref().unwrap_or_default();
        let mut words = title.split(|letter: char| !letter.is_alphanumeric());
        words.any(|word| word.eq_ignore_ascii_case("production"))
    }
}

/// Asks one dashboard.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
    patience: Duration,
    /// The scheduler that is asked about, if it has to be named.
    scheduler: Option<String>,
}

impl Client {
    /// Makes one for a place.
    ///
    /// # Errors
    ///
    /// The address cannot be used.
    pub fn new(place: Place) -> Result<Self, Failed> {
        let base = base(&place.at)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A token goes to the address that was given, and to no other.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(place.patience))
            .user_agent(concat!("callboard/", env!("CARGO_PKG_VERSION")));
        #[cfg(feature = "tls")]
        let config = config.tls_config(trust(place.authorities.as_deref())?);
        Ok(Self {
            agent: config.build().new_agent(),
            base,
            token: place.token,
            patience: place.patience,
            scheduler: None,
        })
    }

    /// Asks what the dashboard is, and keeps to the scheduler of this name. Without a name there
    /// must be one alone.
    ///
    /// # Errors
    ///
    /// It is no dashboard, or has no such scheduler.
    pub fn meet(&mut self, scheduler: Option<&str>) -> Result<Board, Failed> {
        let board = self.get("api", &[]);
        let mut board: Board = match board {
            // An address below another mount, or an application of before there was this.
            Err(Failed::Said {
                ending: Ending::NotFound,
                ..
            }) => return Err(self.strange("has nothing at `/api`")),
            board => self.read(board?)?,
        };
        board.title = board.title.filter(|title| !title.is_empty());
        let all = board.schedulers.join(", ");
        match (scheduler, &board.schedulers[..]) {
            (Some(name), all) if all.iter().any(|known| known == name) => {
                self.scheduler = Some(name.to_owned());
            }
            (None, [_]) => {}
            (Some(name), _) => {
                return Err(Failed::said(
                    Ending::NotFound,
                    format!(
                        "{} shows no scheduler named {name}: it shows {all}",
                        self.base
                    ),
                ));
            }
            (None, []) => return Err(self.strange("shows no scheduler")),
            (None, _) => {
                return Err(Failed::said(
                    Ending::Usage,
                    format!(
                        "{} shows several schedulers: choose one by --scheduler, of {all}",
                        self.base
                    ),
                ));
            }
        }
        Ok(board)
    }

    /// Asks for what stands at a path below the dashboard's.
    ///
    /// # Errors
    ///
    /// It was not answered.
    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Failed> {
        let mut request = self.agent.get(format!("{}/{path}", self.base));
        for (name, value) in query.iter().chain(&self.named()) {
            request = request.query(name, value);
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.answer(request.call())
    }

    /// Has the application do something.
    ///
    /// # Errors
    ///
    /// It was not done, or it is not known whether it was: the words say so.
    pub fn act(&self, action: &str, fields: &Value) -> Result<Value, Failed> {
        let mut request = self
            .agent
            .post(format!("{}/api/actions/{action}", self.base));
        for (name, value) in self.named() {
            request = request.query(name, value);
        }
        let token = self.token.as_deref().unwrap_or(NO_TOKEN);
        let request = request
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .content_type("application/json");
        let done = self.answer(request.send(fields.to_string()));
        done.map_err(|failed| match failed {
            Failed::Said {
                ending: Ending::NoAnswer,
                words,
            } => Failed::said(
                Ending::NoAnswer,
                format!("{words} It is not known whether it was done."),
            ),
            failed => failed,
        })
    }

    fn named(&self) -> Vec<(&str, &str)> {
        let name = self.scheduler.as_deref();
        name.map(|name| ("scheduler", name)).into_iter().collect()
    }

    /// Makes something of an answer.
    ///
    /// # Errors
    ///
    /// It is none of this version's.
    pub fn read<T: DeserializeOwned>(&self, answer: Value) -> Result<T, Failed> {
        serde_json::from_value(answer).map_err(|error| {
            self.strange(&format!(
                "gives an answer that this version of the command cannot read ({error})"
            ))
        })
    }

    fn answer(&self, answer: Result<Response<Body>, Error>) -> Result<Value, Failed> {
        let mut answer = answer.map_err(|error| self.unanswered(error))?;
        let status = answer.status().as_u16();
        if (300..400).contains(&status) {
            let to = answer.headers().get(header::LOCATION);
            let to = to.map_or_else(Default::default, |to| {
                String::from_utf8_lossy(to.as_bytes())
            });
            return Err(Failed::said(
                Ending::Strange,
                format!(
                    "{} leads elsewhere, to {to:?}, where nothing was sent. Give the address \
                     itself by --at, if you trust it.",
                    self.base
                ),
            ));
        }
        let body = answer.body_mut().with_config().limit(MAX_ANSWER);
        let body = body.read_to_vec().map_err(|error| self.unanswered(error))?;
        let read = serde_json::from_slice::<Value>(&body).ok();
        if status == 200 {
            return read.ok_or_else(|| self.strange("does not answer in JSON"));
        }
        let said = read.as_ref().and_then(|it| it.get("error")?.as_str());
        Err(match (status, said) {
            (401 | 403, said) => self.forbidden(said),
            (404, Some(said)) => Failed::said(Ending::NotFound, said),
            (400..600, Some(said)) => Failed::said(Ending::Failed, said),
            (status, _) => self.strange(&format!("answers with the status {status}")),
        })
    }

    fn forbidden(&self, said: Option<&str>) -> Failed {
        let said = said.unwrap_or("it asks who you are");
        let sent = if self.token.is_some() {
            "Is the token right, and may who has it do this?"
        } else {
            "No token was sent: set CALLBOARD_TOKEN, or name a file by --token-file."
        };
        Failed::said(
            Ending::Forbidden,
            format!("{} refuses: {said}. {sent}", self.base),
        )
    }

    /// Says that what answers is not what was expected.
    fn strange(&self, what: &str) -> Failed {
        Failed::said(
            Ending::Strange,
            format!(
                "{} {what}. The address must be that of a dashboard of callboard, with its path, \
                 such as http://127.0.0.1:8080/tasks, and the application not much older than \
                 this command.",
                self.base
            ),
        )
    }

    /// Says why there is no answer.
    fn unanswered(&self, error: Error) -> Failed {
        let base = &self.base;
        match error {
            Error::Timeout(_) => Failed::said(
                Ending::NoAnswer,
                format!(
                    "{base} has not answered within {} s. Try again, or wait longer by --timeout.",
                    self.patience.as_secs()
                ),
            ),
            Error::HostNotFound => Failed::said(
                Ending::NoAnswer,
                format!("no address is known for the host of {base}. Is its name right?"),
            ),
            Error::Io(error) if is_late(&error) => self.unanswered(Error::ConnectionFailed),
            Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.distrusted(error)
            }
            Error::Io(error) => Failed::said(
                Ending::NoAnswer,
                format!(
                    "nothing answers at {base} ({error}). Does the application run, and is the \
                     address right?"
                ),
            ),
            Error::ConnectionFailed => Failed::said(
                Ending::NoAnswer,
                format!(
                    "no connection to {base} can be made. Does the application run, and is the \
                     address right?"
                ),
            ),
            Error::BodyExceedsLimit(_) => {
                self.strange(&format!("answers with more than {} MiB", MAX_ANSWER >> 20))
            }
            #[cfg(feature = "tls")]
            Error::Rustls(error) => self.distrusted(error),
            error => self.strange(&format!("does not speak HTTP as it should ({error})")),
        }
    }

    fn distrusted(&self, error: impl std::fmt::Display) -> Failed {
        Failed::said(
            Ending::Strange,
            format!(
                "{} cannot be trusted ({error}). Name the file of the authority that has signed \
                 its certificate by --ca.",
                self.base
            ),
        )
    }
}

/// Returns whether a connection was not made in time.
fn is_late(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
}

/// Reads the address of a dashboard.
fn base(at: &str) -> Result<String, Failed> {
    let wrong = |words: &str| Failed::said(Ending::Usage, format!("the address {at:?} {words}"));
    let base = at.trim().trim_end_matches('/');
    let example = "must be such as http://127.0.0.1:8080/tasks";
    let uri: Uri = base.parse().map_err(|_| wrong(example))?;
    let host = uri.authority().ok_or_else(|| wrong(example))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") if cfg!(feature = "tls") => {}
        Some("https") => {
            return Err(wrong(
                "needs TLS, which this build of the command has not: install it with the feature \
                 `tls` too, or ask over http",
            ));
        }
        _ => return Err(wrong(example)),
    }
    if host.as_str().contains('@') {
        return Err(Failed::said(
            Ending::Usage,
            "an address that is given on the command line must hold no user and no password, \
             since others on this machine can read it: set CALLBOARD_TOKEN, or name a file by \
             --token-file",
        ));
    }
    if uri.query().is_some() || base.contains('#') {
        return Err(wrong("must end with the path of the dashboard"));
    }
    Ok(base.to_owned())
}

/// Says whom to trust: the authorities of a file, or else those of the web.
#[cfg(feature = "tls")]
fn trust(authorities: Option<&[u8]>) -> Result<ureq::tls::TlsConfig, Failed> {
    use std::sync::Arc;

    use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

    let roots = match authorities {
        None => RootCerts::WebPki,
        Some(pem) => {
            let items = parse_pem(pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            let certificates: Vec<_> = items.collect();
            if certificates.is_empty() {
                return Err(Failed::said(
                    Ending::Usage,
                    "the file of --ca holds no certificate; it must be PEM",
                ));
            }
            RootCerts::new_with_certs(&certificates)
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(provider)
        .root_certs(roots)
        .build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_path_and_no_password() {
        let read = |at: &str| base(at).map_err(|failed| format!("{failed:?}"));
        assert_eq!(read(" http://a.org/tasks/ ").unwrap(), "http://a.org/tasks");
        assert_eq!(read("http://[::1]:80").unwrap(), "http://[::1]:80");
        for wrong in [
            "",
            "a.org/tasks",
            "ftp://a.org",
            "http://",
            "http://a.org/?x=1",
            "http://a.org/#x",
            "http:///tasks",
            "http://a.org/\u{1b}",
        ] {
            assert!(read(wrong).unwrap_err().contains("Usage"), "{wrong}");
        }
        let told = read("http://ada:secret@a.org/").unwrap_err();
        assert!(
            told.contains("no password") && !told.contains("secret"),
            "{told}"
        );
    }

    #[test]
    fn production_is_known_by_its_word() {
        let is = |title: &str| {
            let board = Board {
                callboard: String::new(),
                title: Some(title.to_owned()),
                schedulers: Vec::new(),
                access: String::new(),
            };
            board.is_production()
        };
        assert!(is("production") && is(" PRODUCTION") && is("Production (EU)"));
        assert!(!is("staging") && !is("") && !is("reproductions"));
    }
}
