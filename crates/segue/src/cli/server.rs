//! Which server a client's command talks to.

use std::path::PathBuf;

use clap::Args;
use segue_client::Client;

use crate::place::Place;

/// Where a server listens if nothing says otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:7878";

#[derive(Debug, Args)]
pub(super) struct ServerArgs {
    /// The server's URL [default: the one that serves the data folder, else
    /// <http://127.0.0.1:7878>]
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

impl ServerArgs {
    pub(super) fn place(&self) -> anyhow::Result<Place> {
        self.data.clone().map_or_else(Place::of_user, |data| Ok(Place::new(data)))
    }

    /// The server that was named, else the one that serves the data folder, else the usual one.
    ///
    /// Only the second is shown the folder's token: any other may be somebody else's.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        if let Some(url) = &self.server {
            return Ok(Client::new(url, self.token.clone())?);
        }
        let place = self.place()?;
        let Some(server) = place.server() else {
            // Another folder's server must not be taken for the one of the folder that was named.
            if let Some(data) = &self.data {
                anyhow::bail!("no server serves the data folder {}", data.display());
            }
            return Ok(Client::new(DEFAULT_URL, self.token.clone())?);
        };
        let token = self.token.clone().or_else(|| place.admin_token());
        Ok(Client::new(&format!("http://{}", server.address), token)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(server: Option<&str>, data: &std::path::Path) -> ServerArgs {
        ServerArgs { server: server.map(str::to_owned), token: None, data: Some(data.to_owned()) }
    }

    #[test]
    fn a_named_server_wins_over_the_folders_own() {
        let dir = tempfile::tempdir().unwrap();
        let url = |server| args(server, dir.path()).client().unwrap().base_url().to_owned();
        assert!(args(None, dir.path()).client().is_err());
        let place = Place::new(dir.path().to_owned());
        place.set_server("127.0.0.1:99".parse().unwrap()).unwrap();
        assert_eq!(url(None), "http://127.0.0.1:99");
        assert_eq!(url(Some("http://other:1")), "http://other:1");
    }
}
