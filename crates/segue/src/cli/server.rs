//! Which server a client's command talks to.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use segue_client::Client;

use super::background;
use crate::place::Place;

/// Where a server listens if nothing says otherwise.
pub(super) const DEFAULT_URL: &str = "http://127.0.0.1:7878";

#[derive(Clone, Debug, Args)]
pub(super) struct ServerArgs {
    /// The server's URL [default: the one that serves the data folder]
    #[arg(long, env = "SEGUE_SERVER", value_name = "URL")]
    pub(super) server: Option<String>,
    /// The token to show to a server that was named [default for the one that serves the data
    /// folder: its admin token]
    #[arg(long, env = "SEGUE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The data folder [default: `$XDG_DATA_HOME/segue`, else `~/.local/share/segue`]
    #[arg(long, env = "SEGUE_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Where a command's server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Named(String),
    /// The one that serves this folder, started if need be.
    Folder(Place),
    /// The usual address, for want of a folder.
    Usual(Place),
}

impl ServerArgs {
    pub(super) fn place(&self) -> anyhow::Result<Place> {
        self.data.clone().map_or_else(Place::of_user, |data| Ok(Place::new(data)))
    }

    /// The server that was named, else the one of the data folder, else the usual one.
    ///
    /// A folder that was named is never passed over: another folder's server must not be taken
    /// for its own.
    pub(super) fn target(&self) -> anyhow::Result<Target> {
        if let Some(url) = &self.server {
            return Ok(Target::Named(url.clone()));
        }
        let place = self.place()?;
        let is_usual = self.data.is_none() && !place.has_data() && place.server().is_none();
        Ok(if is_usual { Target::Usual(place) } else { Target::Folder(place) })
    }

    /// A client for what needs data that is there already.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        match self.target()? {
            Target::Folder(place) if !place.has_data() && place.server().is_none() => {
                let folder = place.path().display();
                if place.path().exists() {
                    bail!("{folder} holds no data of Segue: is it the right folder?");
                }
                bail!("there is no data folder {folder}: give the right one with --data");
            }
            Target::Folder(place) => self.of_folder(&place).await,
            Target::Named(url) => Ok(Client::new(&url, self.token.clone())?),
            Target::Usual(_) => Ok(Client::new(DEFAULT_URL, self.token.clone())?),
        }
    }

    /// A client for what may be the first thing that is done with a folder.
    pub(super) async fn client_or_new(&self) -> anyhow::Result<Client> {
        match self.target()? {
            Target::Named(url) => Ok(Client::new(&url, self.token.clone())?),
            Target::Folder(place) | Target::Usual(place) => self.of_folder(&place).await,
        }
    }

    /// Only a folder's own server is shown the folder's token: any other may be somebody else's.
    async fn of_folder(&self, place: &Place) -> anyhow::Result<Client> {
        background::client(place, self.token.clone()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_server_wins_over_the_folders_own() {
        let dir = tempfile::tempdir().unwrap();
        let data = Some(dir.path().to_owned());
        let args = |server: Option<&str>, data| ServerArgs {
            server: server.map(str::to_owned),
            token: None,
            data,
        };
        let place = Place::new(dir.path().to_owned());
        let target = args(None, data.clone()).target().unwrap();
        assert_eq!(target, Target::Folder(place));
        let target = args(Some("http://other:1"), data).target().unwrap();
        assert_eq!(target, Target::Named("http://other:1".to_owned()));
    }
}
