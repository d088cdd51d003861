<?php
// A client of the API with PHP's own streams: BASE_URL and APPKEY in the environment.

function call($method, $name, $headers, $content = '', $key = null)
{
    $headers[] = 'APPKEY: ' . ($key ?? getenv('APPKEY'));
    $http = array('method' => $method, 'header' => $headers, 'content' => $content, 'ignore_errors' => true);
    $answer = file_get_contents(getenv('BASE_URL') . '/' . $name, false, stream_context_create(array('http' => $http)));
    return json_decode($answer, true);
}

function get($name, $params = array(), $key = null)
{
    return call('GET', $name . ($params ? '?' . http_build_query($params) : ''), array(), '', $key);
}

function post($name, $body)
{
    return call('POST', $name, array('Content-Type: application/json'), json_encode($body));
}

function data($answer)
{
    if ($answer['meta']['status'] !== 'SUCCESS') {
        throw new Exception($answer['meta']['status'] . ': ' . $answer['msg']);
    }
    return $answer['data'];
}

$numbers = array('+61400000000', '0400000001');
$sent = data(post('send-sms', array('sms_text' => 'Hello from PHP', 'numbers' => $numbers, 'custom_string' => 'order-1')));
echo "sent {$sent['success_number']} of {$sent['total_numbers']}\n";
$found = data(get('get-sms', array('message_id' => $sent['messages'][0]['message_id'])));
echo "message {$found[0]['to']}\n";

$items = array(
    array('sms_text' => 'one', 'numbers' => array(61400000000)),
    array('sms_text' => '', 'numbers' => array(61400000000)),
);
$codes = array_map(function ($each) { return $each['meta']['status']; }, post('bulk-send-sms', $items));
echo 'bulk ' . implode(' ', $codes) . "\n";

$boundary = bin2hex(random_bytes(16));
$content = "--$boundary\r\nContent-Disposition: form-data; name=\"numbers\"\r\n\r\n" . json_encode(array('+61400000002')) . "\r\n"
    . "--$boundary\r\nContent-Disposition: form-data; name=\"mms_text\"\r\n\r\nA picture\r\n"
    . "--$boundary\r\nContent-Disposition: form-data; name=\"mms_file\"; filename=\"a.gif\"\r\nContent-Type: image/gif\r\n\r\n"
    . file_get_contents(getenv('PICTURE')) . "\r\n--$boundary--\r\n";
$sent = data(call('POST', 'send-mms', array("Content-Type: multipart/form-data; boundary=$boundary"), $content));
echo "mms {$sent['success_number']}\n";

$page = 1;
do {
    $replies = data(get('get-responses', array('page' => $page, 'type' => 'sms')));
    foreach ($replies['responses'] as $reply) {
        echo "reply {$reply['from']}\n";
    }
    $page++;
} while ($page <= $replies['page']['count']);
echo 'read ' . post('inbound-read', array())['meta']['status'] . "\n"; // an empty array is [] in JSON

$templates = data(get('get-template'))['responses'];
foreach ($templates as $template) {
    echo "template {$template['message_title']}\n";
}
$people = array(array('number' => '61400000003', 'fname' => 'Ann'));
$sent = data(post('send-sms-template', array('template_id' => $templates[0]['template_id'], 'numbers' => $people)));
echo "from template {$sent['success_number']}\n";
foreach (data(get('get-optout'))['responses'] as $optOut) {
    echo "optout {$optOut['number']}\n";
}
echo 'balance ' . data(get('account'))['sms_balance'] . "\n";
echo 'wrong key ' . get('account', array(), 'wrong')['meta']['status'] . "\n";
