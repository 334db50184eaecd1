//! New ids: UUID version 7 (RFC 9562) from the injected clock and randomness.

use std::sync::Arc;

use segue_core::{Clock, MessageId, RunId, SessionId};

/// Fills a slice with random bytes. Production asks the system; tests seed their own.
pub type Entropy = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Ids {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
}

impl Ids {
    fn uuid(&self) -> String {
        let mut random = [0_u8; 10];
        (self.entropy)(&mut random);
        let millis = self.clock.now().as_millis();
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().simple().to_string()
    }

    pub(crate) fn run(&self) -> RunId {
        RunId::parse(&format!("run_{}", self.uuid())).expect("a uuid is in the alphabet")
    }

    pub(crate) fn session(&self) -> SessionId {
        SessionId::parse(&format!("ses_{}", self.uuid())).expect("a uuid is in the alphabet")
    }

    pub(crate) fn message(&self) -> MessageId {
        MessageId::parse(&format!("msg_{}", self.uuid())).expect("a uuid is in the alphabet")
    }
}
