//! The crate `centrifuge-client` against a running server: `longwire-centrifuge-client-test http://127.0.0.1:8000`.
//! Prints `ok NAME` or `FAILED NAME: reason` for each test and exits non-zero if one failed.

mod proxy;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use centrifuge::{
    Client, DeltaType, Error, EventStream, HistoryOptions, Protocol, PublicationEvent,
    StreamPosition, Subscription, TransportEndpoint,
};
use futures_util::StreamExt;
use proxy::Proxy;
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(60);

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// How a client speaks.
#[derive(Clone, Copy, Debug)]
enum Carrier {
    Json,
    Protobuf,
    HttpStream,
}

impl Carrier {
    const ALL: [Self; 3] = [Self::Json, Self::Protobuf, Self::HttpStream];

    fn client(self, address: &str) -> Result<Client, Error> {
        let endpoint = match self {
            Self::HttpStream => {
                TransportEndpoint::http_stream(format!("http://{address}/connection/http_stream"))
            }
            _ => TransportEndpoint::websocket(format!("ws://{address}/connection/websocket")),
        };
        let protocol = match self {
            Self::Protobuf => Protocol::Protobuf,
            _ => Protocol::Json,
        };
        Client::builder_with_transports([endpoint])
            .protocol(protocol)
            .min_reconnect_delay(Duration::from_millis(10))
            .max_reconnect_delay(Duration::from_millis(100))
            .build()
    }
}

/// A channel no other test and no other run has.
fn channel(namespace: &str, carrier: Carrier) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    format!(
        "{namespace}:{carrier:?}-{}",
        now.unwrap_or_default().as_nanos()
    )
}

async fn connected(carrier: Carrier, address: &str) -> Result<Client, Error> {
    let client = carrier.client(address)?;
    client.connect()?;
    client.ready(Some(PATIENCE)).await?;
    Ok(client)
}

async fn subscribed(client: &Client, channel: &str) -> Result<Subscription, Error> {
    let subscription = client.new_subscription(channel).build()?;
    subscription.subscribe();
    subscription.ready(Some(PATIENCE)).await?;
    Ok(subscription)
}

/// The next publication must be this one.
async fn expect(publications: &mut EventStream<PublicationEvent>, offset: u64) -> Outcome {
    let publication = publications.next().await.ok_or("the stream ended")?;
    let found = (publication.offset, &publication.data[..]);
    if found != (offset, offset.to_string().as_bytes()) {
        return Err(format!("expected {offset}, got {found:?}").into());
    }
    Ok(())
}

async fn publishes_and_reads_history(carrier: Carrier, address: &str) -> Outcome {
    let client = connected(carrier, address).await?;
    let subscription = subscribed(&client, &channel("recovery", carrier)).await?;
    let mut publications = subscription.publications();
    for offset in 1..=5u64 {
        subscription.publish(offset.to_string()).await?;
        expect(&mut publications, offset).await?;
    }
    let top = subscription.history(HistoryOptions::default()).await?;
    let since = StreamPosition::new(3, top.epoch.as_str());
    let found = subscription
        .history(HistoryOptions::new().limit(10).since(since))
        .await?;
    let offsets: Vec<_> = found.publications.iter().map(|p| p.offset).collect();
    if (top.offset, &offsets[..]) != (5, &[4, 5]) {
        return Err(format!("history {}, {offsets:?}", top.offset).into());
    }
    let stats = subscription.presence_stats().await?;
    if (stats.num_clients, stats.num_users) != (1, 1) {
        return Err(format!("{stats:?}").into());
    }
    client.close().await;
    Ok(())
}

async fn rpc_is_not_available(carrier: Carrier, address: &str) -> Outcome {
    let client = connected(carrier, address).await?;
    let outcome = client.rpc("m", "{}").await;
    client.close().await;
    match outcome {
        Err(Error::Server(error)) if error.code == 108 => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

async fn recovers_what_cuts_missed(carrier: Carrier, address: &str) -> Outcome {
    let publisher = connected(Carrier::Protobuf, address).await?;
    let proxy = Proxy::start(address).await?;
    let client = connected(carrier, proxy.address()).await?;
    let name = channel("recovery", carrier);
    let (tell, mut told) = mpsc::unbounded_channel();
    let subscription = client
        .new_subscription(name.as_str())
        .min_resubscribe_delay(Duration::from_millis(10))
        .on_subscribed(move |_, event| {
            let _ = tell.send((event.was_recovering, event.recovered));
        })
        .build()?;
    let mut publications = subscription.publications();
    subscription.subscribe();
    told.recv().await.ok_or("no subscription")?;
    let mut offset = 0;
    for _ in 0..5 {
        proxy.cut();
        for _ in 0..10 {
            offset += 1;
            publisher.publish(&name, offset.to_string()).await?;
        }
        let state = told.recv().await.ok_or("no subscription")?;
        if state != (true, true) {
            return Err(format!("not recovered: {state:?}").into());
        }
        for expected in offset - 9..=offset {
            expect(&mut publications, expected).await?;
        }
    }
    client.close().await;
    publisher.close().await;
    Ok(())
}

async fn deltas_come_to_what_was_published(carrier: Carrier, address: &str) -> Outcome {
    let client = connected(carrier, address).await?;
    let subscription = client
        .new_subscription(channel("delta", carrier))
        .delta(DeltaType::Fossil)
        .build()?;
    let mut publications = subscription.publications();
    subscription.subscribe();
    subscription.ready(Some(PATIENCE)).await?;
    for n in 0..10 {
        let body = format!(r#"{{"n":{n},"text":"the same words in every one of them"}}"#);
        subscription.publish(body.clone()).await?;
        let publication = publications.next().await.ok_or("the stream ended")?;
        if publication.data != body.as_bytes() {
            return Err(format!("{:?} is not {body:?}", publication.data).into());
        }
    }
    client.close().await;
    Ok(())
}

/// Runs a test with a deadline and says how it went.
async fn passes(name: &str, carrier: Carrier, test: impl Future<Output = Outcome>) -> bool {
    let outcome = tokio::time::timeout(PATIENCE, test).await;
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("not done after {PATIENCE:?}")),
    };
    match &failure {
        None => println!("ok centrifuge-client: {carrier:?}, {name}"),
        Some(reason) => println!("FAILED centrifuge-client: {carrier:?}, {name}: {reason}"),
    }
    failure.is_none()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let url = std::env::args().nth(1).unwrap_or_default();
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut all_passed = true;
    for carrier in Carrier::ALL {
        let one = publishes_and_reads_history(carrier, address);
        all_passed &= passes("publishes and reads history", carrier, one).await;
        let one = rpc_is_not_available(carrier, address);
        all_passed &= passes("rpc is not available", carrier, one).await;
        let one = recovers_what_cuts_missed(carrier, address);
        all_passed &= passes("recovers what cuts missed", carrier, one).await;
        let one = deltas_come_to_what_was_published(carrier, address);
        all_passed &= passes("deltas come to what was published", carrier, one).await;
    }
    if all_passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
