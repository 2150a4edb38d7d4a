"""Send the lines of standard input as text frames, and print text frames as lines.

Uses the library websocket-client as it is after installation: with its default Origin::

    python pipe_websocket_client.py URL [TOKEN]

The end of standard input closes the connection; the last output line is its close code.
"""

from __future__ import annotations

import json
import struct
import sys
import threading

import websocket


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _main() -> None:
    url = sys.argv[1]
    header = [f"Authorization: Bearer {sys.argv[2]}"] if len(sys.argv) > 2 else []
    socket = websocket.create_connection(url, header=header, timeout=60)

    def send_all() -> None:
        for line in sys.stdin:
            socket.send(line.rstrip("\n"))
        socket.send_close()

    threading.Thread(target=send_all, daemon=True).start()
    code: int | None = None
    reason: str | None = None
    while True:
        try:
            opcode, data = socket.recv_data(control_frame=True)
        except websocket.WebSocketConnectionClosedException:
            break
        if opcode == websocket.ABNF.OPCODE_TEXT:
            _say(data.decode())
        elif opcode == websocket.ABNF.OPCODE_CLOSE:
            if len(data) >= 2:
                (code,) = struct.unpack("!H", data[:2])
                reason = data[2:].decode()
            break
    _say(json.dumps({"closed": code, "reason": reason}))


_main()
