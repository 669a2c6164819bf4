//! Several channels on one connection of the plain dialect, from outside: cut and resumed, over two shards.

use crate::harness::{Peer, Server};

/// Spread over both shards, as a hash does it.
const CHANNELS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn target(more: &str) -> String {
    format!("/channels?channel={}{more}", CHANNELS.join("&channel="))
}

/// An event stream, and what of it has come.
struct Events {
    peer: Peer,
    text: String,
    /// The id of the last event.
    id: String,
}

impl Events {
    fn open(server: &Server, last_event_id: &str) -> Self {
        let mut peer = server.connect();
        peer.send(format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nLast-Event-ID: {last_event_id}\r\n\r\n",
            target(""),
            server.host()
        ));
        let head = peer.head();
        assert_eq!(head.status, 200, "{head:?}");
        Self {
            peer,
            text: String::new(),
            id: last_event_id.to_owned(),
        }
    }

    /// The next event with data: its name and its data.
    fn next(&mut self) -> (String, String) {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name| event.lines().find_map(|line| line.strip_prefix(name));
                if let Some(id) = field("id: ") {
                    id.clone_into(&mut self.id);
                }
                if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                    return (name.to_owned(), data.to_owned());
                }
            }
            let chunk = self.chunk();
            self.text.push_str(&chunk);
        }
    }

    fn chunk(&mut self) -> String {
        let mut size = Vec::new();
        while !size.ends_with(b"\r\n") {
            size.extend(self.peer.take(1).expect("a chunk"));
        }
        let digits = std::str::from_utf8(&size).expect("ASCII").trim();
        let size = usize::from_str_radix(digits, 16).expect("the size of a chunk");
        let chunk = self.peer.take(size + 2).expect("a whole chunk");
        String::from_utf8(chunk[..size].to_vec()).expect("UTF-8")
    }
}

#[test]
fn cut_again_and_again_it_goes_on_in_every_channel_where_it_was() {
    let server = Server::start(&["--shards", "2"]);
    let mut heard = vec![0; CHANNELS.len()];
    // It has to begin somewhere.
    let mut events = Events::open(&server, "");
    let mut published = 0;
    for round in 0..10 {
        published += 5;
        for n in published - 4..=published {
            for channel in CHANNELS {
                server.publish(channel, n.to_string());
            }
        }
        // Cut in the middle of what there is, each time elsewhere.
        let missing = published * CHANNELS.len() - heard.iter().sum::<usize>();
        let take = if round == 9 { missing } else { missing - round };
        for _ in 0..take {
            let (name, data) = events.next();
            let channel = CHANNELS.iter().position(|own| *own == name).expect(&name);
            heard[channel] += 1;
            assert_eq!(data, heard[channel].to_string(), "{name}");
        }
        let id = events.id.clone();
        events = Events::open(&server, &id);
    }
    assert_eq!(heard, [published; CHANNELS.len()]);
}

#[test]
fn a_gap_is_told_of_the_channel_that_has_it() {
    let server = Server::start(&["--shards", "2"]);
    let positions = CHANNELS.map(|channel| {
        let (offset, epoch) = server.publish(channel, "1");
        server.publish(channel, "2");
        (channel, offset, epoch)
    });
    let cursor = positions.map(|(channel, offset, epoch)| match channel {
        "c" => format!("c=0123456789abcdef:{offset}"),
        _ => format!("{channel}={epoch}:{offset}"),
    });
    let cursor = cursor.join(",");
    let page = server
        .get(&target(&format!("&wait=5&since={cursor}")))
        .json();
    for channel in CHANNELS {
        let standing = &page["channels"][channel];
        assert_eq!(standing["recovered"], channel != "c", "{page}");
        assert_eq!(standing["offset"], 2, "{page}");
    }
    assert_eq!(page["publications"].as_array().map(Vec::len), Some(5));
    let mut events = Events::open(&server, &cursor);
    let mut told: Vec<(String, String)> = (0..6).map(|_| events.next()).collect();
    told.sort();
    let gap = ("longwire.gap".to_owned(), "{\"channel\":\"c\"}".to_owned());
    assert!(told.contains(&gap), "{told:?}");
    assert_eq!(told.iter().filter(|(_, data)| data == "2").count(), 5);
}

#[test]
fn polls_of_one_connection_lose_nothing_between_them() {
    let server = Server::start(&["--shards", "2"]);
    let mut peer = server.connect();
    let mut position = String::new();
    let mut heard = vec![0; CHANNELS.len()];
    for round in 1..=10 {
        for channel in CHANNELS {
            server.publish(channel, round.to_string());
        }
        while heard.iter().any(|heard| *heard < round) {
            let wait = if position.is_empty() { 0 } else { 5 };
            let target = target(&format!("&wait={wait}&since={position}"));
            let answer = peer.request("GET", &target, "");
            assert_eq!(answer.status, 200);
            position = answer
                .header("longwire-position")
                .expect("a position")
                .to_owned();
            for publication in answer.json()["publications"]
                .as_array()
                .expect("publications")
            {
                let name = publication["channel"].as_str().expect("a name");
                let channel = CHANNELS.iter().position(|own| *own == name).expect(name);
                heard[channel] += 1;
                assert_eq!(publication["data"], heard[channel], "{name}");
                assert_eq!(publication["offset"], heard[channel]);
            }
        }
    }
}
