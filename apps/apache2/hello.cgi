#!/bin/sh
# What a CGI program sees of its request.
printf 'Content-Type: text/plain\n\nhello, %s from %s\n' "$REMOTE_ADDR" "$QUERY_STRING"
