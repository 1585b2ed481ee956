// The token, and what is asked of the server with it.

const KEY = "coadtr-token"; // of this tab alone: gone with it

export const token = () => sessionStorage.getItem(KEY);

export function keepToken(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

// What the page was opened with. A token leaves the address bar at once: addresses are shown, shared and kept.
export function opened() {
  const address = new URL(location.href);
  const given = address.searchParams.get("token");
  if (given !== null) {
    keepToken(given);
    address.searchParams.delete("token");
    history.replaceState(null, "", address);
  }
  return address.searchParams.get("stream");
}

export const streamAddress = (name) => `${location.pathname}?${new URLSearchParams({ stream: name })}`;

export class TokenError extends Error {}

export async function ask(path) {
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  const response = await fetch(path, { headers, cache: "no-store" });
  if (response.status === 401) throw new TokenError("the server asks for a token");
  if (!response.ok) throw new Error(`${path} answers ${response.status}`);
  return response.json();
}

export function socketAddress(path, query) {
  const address = new URL(path, document.baseURI);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  address.search = new URLSearchParams(token() ? { ...query, token: token() } : query);
  return address;
}
