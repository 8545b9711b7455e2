-- Sessions of a mail server with examples/milter.c: miltertest -D socket=inet:PORT@127.0.0.1 -s milter.lua
-- miltertest does not tell the text of a reply: tests/libmilter.rs, which has the policy, compares the filter's log.

local function check(what, error_text)
   if error_text ~= nil then error(what .. ": " .. error_text) end
end

local function reply(conn, what, expected)
   local got = mt.getreply(conn)
   if got ~= expected then error(what .. ": replied " .. string.char(got) .. ", not " .. string.char(expected)) end
end

local function connect(host, address)
   local conn = mt.connect(socket)
   if conn == nil then error("the filter does not listen at " .. socket) end
   check("negotiation", mt.negotiate(conn, 6, nil, nil))
   check("CONNECT", mt.conninfo(conn, host, address))
   reply(conn, "CONNECT from " .. address, SMFIR_CONTINUE)
   check("HELO", mt.helo(conn, "helo.example"))
   reply(conn, "HELO", SMFIR_CONTINUE)
   return conn
end

local function mail(conn, sender)
   check("MAIL", mt.mailfrom(conn, sender))
   reply(conn, "MAIL FROM:" .. sender, SMFIR_CONTINUE)
end

local function rcpt(conn, recipient, expected)
   check("RCPT", mt.rcptto(conn, recipient))
   reply(conn, "RCPT TO:" .. recipient, expected)
end

-- The filter asks for what it uses, and for nothing else.
local conn = connect("client.example", "192.0.2.7")
for name, option in pairs({ header = SMFIP_NOHDRS, EOH = SMFIP_NOEOH, body = SMFIP_NOBODY }) do
   if not mt.test_option(conn, option) then error("the filter wants to be told of " .. name) end
end
for name, option in pairs({ CONNECT = SMFIP_NOCONNECT, HELO = SMFIP_NOHELO, MAIL = SMFIP_NOMAIL, RCPT = SMFIP_NORCPT }) do
   if mt.test_option(conn, option) then error("the filter does not want to be told of " .. name) end
end

-- A listed client: each recipient is judged alone, and a refusal is not the end of the message.
mail(conn, "<sender@example.com>")
rcpt(conn, "<user@example.org>", SMFIR_REPLYCODE)
rcpt(conn, "<postmaster@example.org>", SMFIR_CONTINUE)
rcpt(conn, "<user@example.org>", SMFIR_REPLYCODE)
check("end of message", mt.eom(conn))
reply(conn, "end of message", SMFIR_CONTINUE)

-- The next message of the same client, who has logged in meanwhile; then one more, which is not finished.
check("macro", mt.macro(conn, SMFIC_MAIL, "{auth_authen}", "somebody"))
mail(conn, "<sender@example.com>")
rcpt(conn, "<user@example.org>", SMFIR_CONTINUE)
check("abort", mt.abort(conn))
mt.disconnect(conn)

-- The sender of one message is not that of the next.
conn = connect("client.example", "198.51.100.9")
mail(conn, "<a@spam.example>")
rcpt(conn, "<user@example.org>", SMFIR_REPLYCODE)
check("abort", mt.abort(conn))
mail(conn, "<>")
rcpt(conn, "<user@example.org>", SMFIR_CONTINUE)

-- Where the message goes counts, not what the client wrote; but not what the mail server says of an error.
check("macro", mt.macro(conn, SMFIC_RCPT, "{rcpt_mailer}", "smtp", "{rcpt_addr}", "user@parked.example"))
rcpt(conn, "<user%parked.example@example.org>", SMFIR_REPLYCODE)
check("macro", mt.macro(conn, SMFIC_RCPT, "{rcpt_mailer}", "error", "{rcpt_addr}", "no such user@parked.example"))
rcpt(conn, "<user@example.org>", SMFIR_CONTINUE)
check("macro", mt.macro(conn, SMFIC_RCPT, "{rcpt_mailer}", "local", "{rcpt_addr}", "postmaster@parked.example"))
rcpt(conn, "<postmaster>", SMFIR_CONTINUE)
mt.disconnect(conn)

-- IPv6, and a client whose address nobody knows.
conn = connect("client.example", "2001:db8:bad::1")
mail(conn, "<sender@example.com>")
rcpt(conn, "<user@example.org>", SMFIR_REPLYCODE)
mt.disconnect(conn)
conn = connect("client.example", "unspec")
mail(conn, "<sender@example.com>")
rcpt(conn, "<user@example.org>", SMFIR_CONTINUE)
rcpt(conn, "<user@parked.example>", SMFIR_REPLYCODE)
mt.disconnect(conn, false)

mt.echo("as expected")
