// A chat page. The answer is a run of the server: reload the page, open it on another device by its
// address, or restart the server; what was said stays, each word once.

import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { useState } from "react";
import { createRoot } from "react-dom/client";

import { resumable } from "../../../clients/typescript/segue-resume.js";

const place = new URL(location.href);
const server = place.searchParams.get("server") ?? "http://127.0.0.1:7878";
const agent = place.searchParams.get("agent") ?? undefined;
const api = `${server}/api/chat`;

/** The chat's id stands in the address, so that whoever has the address is in the chat. */
function chatId() {
  const known = place.searchParams.get("chat");
  if (known) return known;
  const id = crypto.randomUUID();
  place.searchParams.set("chat", id);
  history.replaceState(null, "", place);
  return id;
}

/** What was said before, without an answer that still grows: the resume brings that whole. */
async function said(id) {
  const answer = await fetch(`${server}/v1/sessions/${id}/messages?order=desc&limit=100`);
  if (!answer.ok) return [];
  const { data } = await answer.json();
  const whole = data.reverse().filter((message) => message.status !== "streaming");
  return whole.map(({ id, role, parts, metadata }) => ({
    id: metadata.ai_sdk_id ?? id,
    role,
    parts: parts.filter((part) => part.type === "text" || part.type === "reasoning"),
  }));
}

function Message({ message }) {
  return (
    <article className={message.role}>
      {message.parts.map((part, index) =>
        part.type === "text" ? <span key={index}>{part.text}</span>
          : part.type === "reasoning" ? <small key={index}>{part.text}</small>
            : null,
      )}
    </article>
  );
}

function Chat({ id, messages: before }) {
  const transport = new DefaultChatTransport({ api, fetch: resumable(), body: { agent } });
  const [chat] = useState(() => ({ id, messages: before, transport, resume: true }));
  const { messages, sendMessage, regenerate, status, error } = useChat(chat);
  const [text, setText] = useState("");
  const isBusy = status === "submitted" || status === "streaming";
  const send = (event) => {
    event.preventDefault();
    if (text.trim() === "") return;
    sendMessage({ text });
    setText("");
  };
  // Leaving, also `stop()` of `useChat`, stops nothing: this does.
  const stop = () => fetch(`${api}/${id}/stop`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: "{}",
  });
  return (
    <>
      {messages.map((message) => <Message key={message.id} message={message} />)}
      {error && <p role="alert">The answer broke off: {error.message}</p>}
      <form onSubmit={send} data-status={status}>
        <input autoFocus aria-label="Message" value={text} onChange={(event) => setText(event.target.value)} />
        {isBusy
          ? <button type="button" onClick={stop}>Stop</button>
          : <button type="submit">Send</button>}
        {!isBusy && messages.length > 1 && <button type="button" onClick={() => regenerate()}>Again</button>}
      </form>
    </>
  );
}

const id = chatId();
const messages = await said(id);
createRoot(document.getElementById("chat")).render(<Chat id={id} messages={messages} />);
