//! Numbers by name, each change appended to a file before it counts.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::num::ParseIntError;
use std::path::Path;
use std::sync::Mutex;

#[derive(Debug)]
pub enum Error {
    Unknown(String),
    Number(ParseIntError),
    Command(String),
    Io(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Unknown(key) => write!(f, "there is no {key}"),
            Error::Number(e) => write!(f, "{e}"),
            Error::Command(text) => write!(f, "what is {text}"),
            Error::Io(e) => write!(f, "{e}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<ParseIntError> for Error {
    fn from(e: ParseIntError) -> Self {
        Error::Number(e)
    }
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Error::Io(e)
    }
}

struct Inner {
    values: BTreeMap<String, i64>,
    log: File,
}

pub struct Store(Mutex<Inner>);

impl Store {
    /// Reads what a log has, and goes on writing it.
    pub fn open(path: &Path) -> Result<Store, Error> {
        let log = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut values = BTreeMap::new();
        for line in BufReader::new(&log).lines() {
            let line = line?;
            let (key, value) = line.split_once('=').ok_or_else(|| Error::Command(line.clone()))?;
            values.insert(key.to_string(), value.parse()?);
        }
        Ok(Store(Mutex::new(Inner { values, log })))
    }

    pub fn execute(&self, text: &str) -> Result<String, Error> {
        let mut inner = self.0.lock().unwrap();
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            ["get", key] => match inner.values.get(key) {
                Some(n) => Ok(n.to_string()),
                None => Err(Error::Unknown(key.to_string())),
            },
            ["set", key, value] => inner.put(key, value.parse()?),
            ["add", key, value] => {
                let n = inner.values.get(key).copied().unwrap_or(0) + value.parse::<i64>()?;
                inner.put(key, n)
            }
            _ => Err(Error::Command(text.to_string())),
        }
    }

    pub fn dump(&self) -> String {
        let inner = self.0.lock().unwrap();
        inner.values.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ")
    }
}

impl Inner {
    fn put(&mut self, key: &str, value: i64) -> Result<String, Error> {
        writeln!(self.log, "{key}={value}")?;
        self.values.insert(key.to_string(), value);
        Ok("done".to_string())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.log.sync_all();
    }
}
