#!/bin/sh
# A client of the API in plain curl: BASE_URL and APPKEY in the environment.
set -eu

json() { curl -sS -H "APPKEY: $APPKEY" -H 'Content-Type: application/json' "$@"; }
# Each value of a field, a line each.
values() { grep -o "\"$1\":\"[^\"]*\"" | cut -d'"' -f4; }
number() { grep -o "\"$1\":\"\{0,1\}[0-9.]*" | head -n 1 | grep -o '[0-9.]*$'; }

answer=$(json -d '{"sms_text":"Hello from curl","numbers":["+61400000000","0400000001"],"custom_string":"order-1"}' \
  "$BASE_URL/send-sms")
echo "sent $(echo "$answer" | number success_number) of $(echo "$answer" | number total_numbers)"
id=$(echo "$answer" | values message_id | head -n 1)
json "$BASE_URL/get-sms?message_id=$id" | values to | sed 's/^/message /'

answer=$(json -d '[{"sms_text":"one","numbers":["61400000000"]},{"sms_text":"","numbers":["61400000000"]}]' \
  "$BASE_URL/bulk-send-sms")
echo "bulk $(echo "$answer" | values status | paste -sd' ' -)"

answer=$(curl -sS -H "APPKEY: $APPKEY" -F 'numbers=["+61400000002"]' -F 'mms_text=A picture' \
  -F "mms_file=@$PICTURE;type=image/gif" "$BASE_URL/send-mms")
echo "mms $(echo "$answer" | number success_number)"

page=1
pages=1
while [ "$page" -le "$pages" ]; do
  answer=$(json "$BASE_URL/get-responses?page=$page&type=sms")
  pages=$(echo "$answer" | number count)
  echo "$answer" | values from | sed 's/^/reply /'
  page=$((page + 1))
done
json -d '' "$BASE_URL/inbound-read" | values status | sed 's/^/read /'

json "$BASE_URL/get-template" | values message_title | sed 's/^/template /'
template=$(json "$BASE_URL/get-template" | values template_id | head -n 1)
answer=$(json -d "{\"template_id\":\"$template\",\"numbers\":[{\"number\":\"61400000003\",\"fname\":\"Ann\"}]}" \
  "$BASE_URL/send-sms-template")
echo "from template $(echo "$answer" | number success_number)"
json "$BASE_URL/get-optout" | values number | grep 614 | sed 's/^/optout /'
json "$BASE_URL/account" | number sms_balance | sed 's/^/balance /'
curl -sS -H 'APPKEY: wrong' "$BASE_URL/account" | values status | sed 's/^/wrong key /'
