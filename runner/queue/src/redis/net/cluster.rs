//! A Redis Cluster: each command goes to the node that serves its slot, all nodes in parallel.
//!
//! A failing node affects only its own slots: commands for them get an error, all others get their answers. The slot
//! map is refreshed at the start, whenever a node answers that a slot has moved, and whenever a node cannot be reached.
//! A command that was sent and not answered is never sent again from here: it may have run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use redis::aio::PubSub;
use redis::{Cmd, Pipeline, Value};
use tokio::time::{Instant, timeout};

use crate::redis::format::scripts::Hashes;
use crate::redis::net::dial::{Connection, DialError};
use crate::redis::net::fault;
use crate::redis::net::load_scripts;
use crate::redis::net::login::RedisLogin;
use crate::redis::net::node::{ClusterNode, NoAnswer, NodeAccess};
use crate::redis::net::settings::{self, RedisTls};
use crate::redis::net::slots::{self, NodeAddress, Route};

/// Redirections followed for one command before they are taken for a loop.
const REDIRECTIONS: usize = 5;
/// How long a node may take to return the slot map or accept a listener before the next one is asked.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// The minimum time between two refreshes of the slot map.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// The nodes of one cluster.
pub(in crate::redis) struct Cluster {
    access: Arc<NodeAccess>,
    seeds: Vec<NodeAddress>,
    map: Mutex<SlotMap>,
    /// Locked for the whole refresh, so that all callers that need one share it.
    refreshed: tokio::sync::Mutex<Option<LastRefresh>>,
    /// Whether scripts carry flags, which all nodes must agree on; decided when scripts are first loaded.
    flags: OnceLock<bool>,
}

/// When the slot map was last refreshed, and the error if that failed.
struct LastRefresh {
    at: Instant,
    error: Option<DialError>,
}

#[derive(Default)]
struct SlotMap {
    /// Last slot of each range and the node that serves it, in order.
    owners: Vec<(u16, Option<Arc<ClusterNode>>)>,
    nodes: HashMap<NodeAddress, Arc<ClusterNode>>,
}

impl SlotMap {
    fn owner(&self, slot: u16) -> Option<Arc<ClusterNode>> {
        // Ranges are in order and without gaps: slots that no node serves are ranges with `None`.
        let at = self.owners.partition_point(|(last, _)| *last < slot);
        self.owners.get(at)?.1.clone()
    }
}

/// Commands for one node, by their index in the pipeline.
struct NodeBatch {
    node: Arc<ClusterNode>,
    /// Whether each command needs `ASKING`.
    once: bool,
    places: Vec<usize>,
}

/// Commands still to be sent, by node, and the answers so far.
struct Exchange<'a> {
    commands: Vec<&'a Cmd>,
    groups: Vec<NodeBatch>,
    answers: Vec<Value>,
}

impl Exchange<'_> {
    /// Commands with and without `ASKING` are kept apart: the prefix changes what the node answers.
    fn add(&mut self, node: Arc<ClusterNode>, once: bool, place: usize) {
        let same = |group: &&mut NodeBatch| group.once == once && group.node.address == node.address;
        match self.groups.iter_mut().find(same) {
            Some(group) => group.places.push(place),
            None => self.groups.push(NodeBatch {
                node,
                once,
                places: vec![place],
            }),
        }
    }
}

impl Cluster {
    /// Touches no network. `nodes`: `host:port` of each known node.
    pub(in crate::redis) fn new(nodes: &[String], login: RedisLogin, tls: Option<RedisTls>) -> Self {
        let seeds = nodes.iter().filter_map(|text| settings::address(text));
        let seeds = seeds.map(|(host, port)| NodeAddress {
            host: host.to_owned(),
            port,
        });
        Self {
            access: Arc::new(NodeAccess { login, tls }),
            seeds: seeds.collect(),
            map: Mutex::default(),
            refreshed: tokio::sync::Mutex::default(),
            flags: OnceLock::new(),
        }
    }

    /// Sends all commands; returns one answer for each, in order. If its node cannot be reached, a command is answered
    /// with the error `CLUSTERDOWN`, or with the reason for a failed login or an untrusted certificate. `within`
    /// shortens the time that each node may take; a node that exceeds it counts as asked without an answer.
    pub(in crate::redis) async fn send(&self, pipe: &Pipeline, within: Option<Duration>) -> Vec<Value> {
        let commands: Vec<&Cmd> = pipe.cmd_iter().collect();
        let mut round = Exchange {
            groups: Vec::new(),
            answers: vec![Value::Nil; commands.len()],
            commands,
        };
        self.sort(&mut round, None).await;
        // Each round sends what the one before redirected. The last round may not redirect again (`left` is 0), so
        // every command has an answer when the loop ends.
        for left in (0..=REDIRECTIONS).rev() {
            let groups = std::mem::take(&mut round.groups);
            if groups.is_empty() {
                break;
            }
            let answered = join_all(groups.iter().map(|group| {
                let commands: Vec<&Cmd> = group.places.iter().map(|place| round.commands[*place]).collect();
                async move {
                    let exchange = group.node.exchange(&commands, group.once, &self.flags);
                    match within {
                        Some(within) => timeout(within, exchange).await.ok(),
                        None => Some(exchange.await),
                    }
                }
            }));
            for (group, result) in groups.iter().zip(answered.await) {
                match result {
                    Some(Ok(values)) => self.sort_answers(&mut round, group, values, left > 0).await,
                    Some(Err(lost)) => self.sort_lost(&mut round, group, lost, left > 0).await,
                    // The commands may have run, so they are not sent elsewhere; and the caller has no time left.
                    None => {
                        let error =
                            DialError::Unreachable(format!("{}: it did not answer in time", group.node.address));
                        for place in &group.places {
                            round.answers[*place] = fault::unanswered(&error);
                        }
                    }
                }
            }
        }
        round.answers
    }

    /// Groups the commands by node: all of them, or only those that the node in `failed` could not be sent.
    async fn sort(&self, round: &mut Exchange<'_>, failed: Option<(&NodeBatch, &DialError)>) {
        let all: Vec<usize> = (0..round.commands.len()).collect();
        let places = failed.map_or(&all, |(group, _)| &group.places);
        // After a failure the caller has refreshed already; else refresh once for all commands without a node.
        let mut looked = failed.is_some();
        for place in places {
            let route = slots::route(round.commands[*place]);
            // The refreshed map may still name the node that just failed.
            let avoid = failed.map(|(group, _)| &group.node.address);
            let mut node = self.node_for(route, avoid);
            if node.is_none() && !looked {
                looked = true;
                if let Err(error) = self.refresh_slots().await {
                    tracing::debug!(%error, "no node returns the slot map");
                }
                node = self.node_for(route, avoid);
            }
            match node {
                Some(node) => round.add(node, false, *place),
                None => {
                    round.answers[*place] = match failed {
                        Some((_, error)) => fault::unanswered(error),
                        None => fault::unanswered(&unserved()),
                    };
                }
            }
        }
    }

    /// The node to send to, never the one to avoid.
    fn node_for(&self, route: Route, avoid: Option<&NodeAddress>) -> Option<Arc<ClusterNode>> {
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        match route {
            Route::Slot(slot) => map.owner(slot).filter(|node| Some(&node.address) != avoid),
            Route::Any => {
                let mut nodes = map.owners.iter().filter_map(|(_, node)| node.as_ref());
                nodes.find(|node| Some(&node.address) != avoid).cloned()
            }
        }
    }

    async fn sort_answers(&self, round: &mut Exchange<'_>, group: &NodeBatch, values: Vec<Value>, may_go_on: bool) {
        let mut moved = false;
        for (place, value) in group.places.iter().zip(values) {
            let redirect = slots::redirect(&value, &group.node.address).filter(|redirect| {
                // `ASK`: while a slot migrates, a script would find only some of the queue's keys at the target and
                // take the rest for deleted. The caller gets the error and tries again after the migration.
                may_go_on && !(redirect.once && slots::is_script(round.commands[*place]))
            });
            match redirect {
                Some(redirect) => {
                    moved |= !redirect.once;
                    round.add(self.node(redirect.to), redirect.once, *place);
                }
                None => {
                    // A node that has lost the majority may just have been replaced.
                    moved |= matches!(&value, Value::ServerError(error) if error.code() == "CLUSTERDOWN");
                    round.answers[*place] = value;
                }
            }
        }
        // Once for all answers, after the redirected commands are queued: they go to the node that was named.
        if moved && let Err(error) = self.refresh_slots().await {
            tracing::debug!(%error, "no node returns the slot map");
        }
    }

    /// The slots may have moved to a replica of the lost node: commands that were not sent go there.
    async fn sort_lost(&self, round: &mut Exchange<'_>, group: &NodeBatch, lost: NoAnswer, may_go_on: bool) {
        if let Err(error) = self.refresh_slots().await {
            tracing::debug!(%error, "no node returns the slot map");
        }
        if may_go_on && !lost.sent {
            self.sort(round, Some((group, &lost.error))).await;
            return;
        }
        for place in &group.places {
            round.answers[*place] = fault::unanswered(&lost.error);
        }
    }

    /// The node at this address, created if unknown.
    fn node(&self, address: NodeAddress) -> Arc<ClusterNode> {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(ClusterNode::new(address.clone(), Arc::clone(&self.access)));
        Arc::clone(map.nodes.entry(address.clone()).or_insert_with(new))
    }

    /// Refreshes the slot map, or returns the result of a refresh that just ended: a hundred callers that met the same
    /// moved slot cause one refresh.
    pub(in crate::redis) async fn refresh_slots(&self) -> Result<(), DialError> {
        // The lock is held across the refresh on purpose: waiters find its result instead of asking again.
        let mut refreshed = self.refreshed.lock().await;
        if let Some(last) = refreshed.as_ref().filter(|last| last.at.elapsed() < LOOK_PAUSE) {
            return last.error.clone().map_or(Ok(()), Err);
        }
        let asked = self.ask_nodes_in_turn().await;
        *refreshed = Some(LastRefresh {
            at: Instant::now(),
            error: asked.as_ref().err().cloned(),
        });
        asked
    }

    async fn ask_nodes_in_turn(&self) -> Result<(), DialError> {
        let mut last = unserved();
        for address in self.places_to_ask() {
            let asked = async {
                // The node's own shared connection: it is needed for commands anyway, and a refresh that replaces
                // the map keeps it.
                let (mut link, _) = self.node(address.clone()).connection().await?;
                let mut command = redis::cmd("CLUSTER");
                let answer = command.arg("SLOTS").query_async::<Value>(&mut link);
                answer.await.map_err(DialError::from)
            };
            match timeout(LOOK_TIMEOUT, asked).await {
                Ok(Ok(answer)) => {
                    let owners = slots::owners(answer, &address);
                    // An isolated or restarting node knows no owner; another node may.
                    if owners.iter().any(|(_, owner)| owner.is_some()) {
                        self.replace_map(owners);
                        return Ok(());
                    }
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = DialError::Unreachable(format!("{address}: it did not answer in time")),
            }
        }
        Err(last)
    }

    /// Every known node: those with slots first, then the configured ones.
    fn places_to_ask(&self) -> Vec<NodeAddress> {
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let mut places: Vec<NodeAddress> = Vec::new();
        let known = map.owners.iter().filter_map(|(_, node)| node.as_ref());
        for address in known.map(|node| &node.address).chain(&self.seeds) {
            if !places.contains(address) {
                places.push(address.clone());
            }
        }
        places
    }

    fn replace_map(&self, owners: Vec<(u16, Option<NodeAddress>)>) {
        let owners: Vec<(u16, Option<Arc<ClusterNode>>)> = owners
            .into_iter()
            .map(|(last, address)| (last, address.map(|address| self.node(address))))
            .collect();
        // Locked only now: `node` takes the same lock.
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let used = |address: &NodeAddress| owners.iter().flat_map(|(_, n)| n).any(|n| n.address == *address);
        // Nodes without slots would pile up with each failover. Seeds stay: they are asked when all others are gone.
        map.nodes
            .retain(|address, _| used(address) || self.seeds.contains(address));
        map.owners = owners;
    }

    /// Every node that serves slots.
    fn primaries(&self) -> Vec<Arc<ClusterNode>> {
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let mut nodes: Vec<Arc<ClusterNode>> = Vec::new();
        for node in map.owners.iter().filter_map(|(_, node)| node.as_ref()) {
            if !nodes.iter().any(|known| known.address == node.address) {
                nodes.push(Arc::clone(node));
            }
        }
        nodes
    }

    /// The shared connection to each node that serves slots, or the error of a node that cannot be reached.
    pub(in crate::redis) async fn each(&self) -> Vec<Result<Connection, DialError>> {
        let nodes = self.primaries();
        let connections = nodes
            .iter()
            .map(|node| async move { node.connection().await.map(|(link, _)| link) });
        join_all(connections).await
    }

    /// Loads all scripts into every reachable node; `exchange` loads them into a node that lacks them later.
    pub(in crate::redis) async fn load(&self) -> Result<Hashes, DialError> {
        let (mut links, mut failure) = (Vec::new(), None);
        for link in self.each().await {
            match link {
                Ok(link) => links.push(link),
                Err(error) => failure = Some(error),
            }
        }
        if self.flags.get().is_none() {
            let known = join_all(links.iter_mut().map(load_scripts::knows_flags)).await;
            let mut known = known.into_iter().filter_map(Result::ok).peekable();
            // Decided once and for good, because flags change the hashes: so not before a node has answered.
            if known.peek().is_some() {
                let flags = known.all(|knows| knows);
                self.flags.get_or_init(|| flags);
            }
        }
        let flags = self.flags.get().copied().unwrap_or(false);
        let mut hashes = None;
        for loaded in join_all(links.iter_mut().map(|link| load_scripts::load_as(link, flags))).await {
            match loaded {
                Ok(loaded) => hashes = Some(loaded),
                // One loaded node suffices: the others are loaded on demand.
                Err(error) => failure = Some(error.into()),
            }
        }
        hashes.ok_or_else(|| failure.unwrap_or_else(unserved))
    }

    /// A connection of the caller's own to the node that serves `key`.
    pub(in crate::redis) async fn dedicated(&self, key: &str) -> Result<Connection, DialError> {
        let route = Route::Slot(slots::of_key(key.as_bytes()));
        if self.node_for(route, None).is_none() {
            self.refresh_slots().await?;
        }
        let node = self.node_for(route, None).ok_or_else(unserved)?;
        let link = node.dial(None).await;
        // The next attempt goes to the replica if it has taken over.
        if link.is_err() {
            self.refresh_slots().await?;
        }
        link
    }

    /// A connection of the caller's own to any node, for listening: the cluster forwards what is published at any node.
    pub(in crate::redis) async fn listener(&self) -> Result<PubSub, DialError> {
        if self.primaries().is_empty() {
            self.refresh_slots().await?;
        }
        let mut last = unserved();
        for node in self.primaries() {
            match timeout(LOOK_TIMEOUT, node.listener()).await {
                Ok(Ok(listener)) => return Ok(listener),
                Ok(Err(error)) => last = error,
                Err(_) => {}
            }
        }
        Err(last)
    }
}

fn unserved() -> DialError {
    DialError::Unreachable("no node of the cluster serves this slot".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn unreachable_cluster() -> Cluster {
        // A port that was just released: connections are refused.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        Cluster::new(&[format!("127.0.0.1:{port}")], RedisLogin::default(), None)
    }

    #[tokio::test]
    async fn a_cluster_that_is_down_stays_down_until_a_node_answers() {
        let cluster = unreachable_cluster();
        let first = cluster.refresh_slots().await.unwrap_err().to_string();
        assert!(first.contains("refused"), "{first}");
        assert_eq!(
            cluster.refresh_slots().await.unwrap_err().to_string(),
            first,
            "a shared refresh returns the error of the first"
        );
        assert!(cluster.load().await.is_err());
        assert_eq!(cluster.flags.get(), None, "no node returned its version");
    }
}
