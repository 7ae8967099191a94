// SPDX-License-Identifier: BSD-3-Clause
//! What a root does about its disk. A member of the root group that cannot write its log stops, since
//! nothing that it says would be durable; the others go on. Here it is started again when the disk
//! allows it, and files that are damaged are put aside: the node then takes part as a new voter, whose
//! id nobody has counted on, and the leader exchanges the former one for it. `driver` calls this.

use std::time::Duration;

use pando_wire::Purpose;

use crate::driver::Driver;
use crate::event::{Event, Reopened};
use crate::group::{Group, GroupError};

/// Between two tries to open the files of a member that has stopped.
const RETRY: Duration = Duration::from_secs(1);

impl Driver {
    /// The roots can do without what this node knows as one of them. Who has joined knows that there are others even
    /// when its map, which is written now and then, does not say so yet.
    pub fn can_be_replaced_as_root(&self) -> bool {
        let me = self.state.node;
        let has_joined = self.map.nodes().is_empty() && self.state.contacts.iter().any(|contact| contact.node != me);
        !self.state.is_founding && (has_joined || self.map.roots().voters.keys().any(|voter| *voter != me))
    }

    /// At the start of the process: the member as its files have it, or a new one in their place.
    pub async fn start_group_as_is(&mut self) -> Result<(), String> {
        if !self.config.roles.root {
            return Ok(());
        }
        match Group::start(self.group_config()).await {
            Ok(group) => {
                self.adopt_group(group, false);
                Ok(())
            }
            Err(error) if error.is_damage && self.can_be_replaced_as_root() => {
                self.put_files_aside(&error).await?;
                self.start_group(false, None).await
            }
            Err(error) => Err(error.text),
        }
    }

    /// The next member starts with an empty folder. The former one stays for people to look at.
    async fn put_files_aside(&mut self, error: &GroupError) -> Result<(), String> {
        let damaged = self.file.root_dir(self.state.root_files);
        self.state.root_files += 1;
        self.persist_durably().await?;
        tracing::error!(
            error = error.text,
            left = %damaged.display(),
            "the files of this root are damaged; it asks the other roots to take it as a new one"
        );
        Ok(())
    }

    /// The member has stopped by itself. Nothing that it promised is kept up, and nothing is forgotten: the
    /// one that follows it waits a lease, as after a restart of the process.
    pub fn on_group_stopped(&mut self, reason: &str) {
        tracing::error!(reason, "this node's member of the root group has stopped; it starts again when it can");
        // The next member of this process knows what this one has promised.
        self.root_note = self.root.take().map(|root| root.note(&self.env));
        if let Some(watch) = self.group_watch.take() {
            watch.abort();
        }
        let former = self.group.take();
        self.update_view();
        // They lead to the member that has stopped: the other roots would ask it for ever.
        for conn in self.inbound.values().filter(|conn| conn.peer().purpose == Purpose::Raft) {
            conn.close();
        }
        self.open_group_again(former);
    }

    fn open_group_again(&self, former: Option<Group>) {
        let (config, events) = (self.group_config(), self.events.clone());
        let (cluster, files) = (self.state.cluster, self.state.root_files);
        tokio::spawn(async move {
            if let Some(former) = former {
                former.stop().await;
            }
            tokio::time::sleep(RETRY).await;
            let result = Group::start(config).await;
            events.send(Event::GroupOpened(Box::new(Reopened { cluster, files, result }))).ok();
        });
    }

    pub async fn on_group_opened(&mut self, reopened: Reopened) {
        let is_same = self.state.cluster == reopened.cluster && self.state.root_files == reopened.files;
        if self.group.is_some() || !is_same {
            // The node belongs to another cluster meanwhile.
            if let Ok(group) = reopened.result {
                group.stop().await;
            }
            return;
        }
        let error = match reopened.result {
            Ok(group) => {
                tracing::info!("this node's member of the root group runs again");
                self.reopened += 1;
                return self.adopt_group(group, false);
            }
            Err(error) => error,
        };
        if error.is_damage && self.can_be_replaced_as_root() {
            match self.put_files_aside(&error).await {
                // The node tells the others of the voter that its new files name.
                Ok(()) => drop(tokio::spawn(self.flow().register(crate::change::MAP_SOON))),
                Err(text) => tracing::warn!(text, "not put aside yet"),
            }
        } else {
            tracing::warn!(error = error.text, "the files of this root cannot be used yet");
        }
        self.open_group_again(None);
    }
}
